"""A small graph while it is being written, and the backbone before every head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from anysize.sizes import Size

# conv 3×3 s2 p1 and pool 2×2: a 16×12 image gives a 4-channel 4×3 map.
CHANNELS, HEIGHT, WIDTH, HIDDEN, CLASSES = 4, 4, 3, 6, 5
TRAINED = Size(16, 12)
LARGER = (Size(19, 26), Size(31, 17))
FLAT = CHANNELS * HEIGHT * WIDTH


@dataclass
class Net:
    """A graph while it is being written."""

    opset: int = 17
    batch: int | str = 1
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    outputs: list[tuple[str, int]] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(11))
    # Whether weights stand in the list of inputs, too, as before IR version 4.
    lists_weights: bool = False

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        number = len(self.nodes)
        made = [f"{op.lower()}{number}_{place}" for place in range(outputs)]
        node = onnx.helper.make_node(op, inputs, made, name=f"{op}_{number}", **attributes)
        self.nodes.append(node)
        return made[0]

    def store(self, array: np.ndarray) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *numbers: int) -> str:
        return self.store(np.array(numbers, np.int64))

    def normal(self, *dims: int) -> np.ndarray:
        fan_in = max(1, int(np.prod(dims)) // CLASSES)
        return (self.rng.standard_normal(dims) / np.sqrt(fan_in)).astype(np.float32)

    def squeeze(self, x: str, *axes: int, op: str = "Squeeze") -> str:
        if self.opset < 13:
            return self.add(op, x, axes=list(axes))
        return self.add(op, x, self.ints(*axes))

    def model(self) -> onnx.ModelProto:
        image = onnx.helper.make_tensor_value_info(
            "image", 1, (self.batch, 3, TRAINED.height, TRAINED.width)
        )
        inputs = [image]
        if self.lists_weights:
            inputs += [
                onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
                for t in self.tensors
            ]
        outputs = [
            onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in self.outputs
        ]
        graph = onnx.helper.make_graph(self.nodes, "net", inputs, outputs, self.tensors)
        model = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", self.opset)],
            ir_version=3 if self.lists_weights else 8,
        )
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        for output, typed in zip(model.graph.output, inferred.graph.output, strict=True):
            if typed.type.tensor_type.HasField("shape"):
                output.CopyFrom(typed)
            else:  # a Reshape to a computed shape is beyond onnx's inference
                maker = next(node for node in self.nodes if output.name in node.output)
                drops = any(a.name == "keepdims" and not a.i for a in maker.attribute)
                sides = ["rows"] if drops else ["rows", "columns"]
                kind = output.type.tensor_type.elem_type
                output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, kind, sides))
        onnx.checker.check_model(model, full_check=True)
        return model

    def reduce(self, op: str, x: str, *, keepdims: int = 1) -> str:
        """Reduce the features of `(batch, features)`; the axes became an input one by one."""
        if self.opset < (13 if op == "ReduceSum" else 18):
            return self.add(op, x, axes=[1], keepdims=keepdims)
        return self.add(op, x, self.ints(-1), keepdims=keepdims)


Piece = Callable[[Net, str], str]


def backbone(net: Net) -> str:
    weight, bias = net.store(net.normal(CHANNELS, 3, 3, 3)), net.store(net.normal(CHANNELS))
    conv = net.add("Conv", "image", weight, bias, strides=[2, 2], pads=[1, 1, 1, 1])
    return net.add("MaxPool", net.add("Relu", conv), kernel_shape=[2, 2], strides=[2, 2])
