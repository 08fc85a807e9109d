"""Guards that make every runtime refuse sizes that the network cannot take.

Runtimes differ there: ONNX Runtime's MaxPool answers 1×1 for a 1×1 map where PyTorch refuses,
and a 1×49 map has as many elements as the 7×7 that a fully connected layer was trained on. A
guard reshapes a tensor to `(batch, channels, max(height, h), max(width, w))`: nothing where it is
large enough, an element count that does not match, and so an error, where it is not.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size
from anysize.surgery.graph import GraphView, attribute, image_input, opset_version
from anysize.surgery.shapes import infer_shapes

__all__ = ["guard_map_size", "guard_min_size", "is_guard"]

_MIN_SIZE, _MAP_SIZE = "anysize_min_size", "anysize_map_size"
# Shape gained its `start` attribute here.
_SHAPE_START_OPSET = 15


def guard_min_size(model: onnx.ModelProto, size: Size) -> onnx.ModelProto:
    """Make the graph fail for images lower or narrower than `size`, and leave all others alone.

    A graph that has this guard gets the new size written into it.

    Args:
        model: Edited in place.
        size: The smallest legal image.

    Returns:
        `model` itself.

    Raises:
        UnsupportedModelError: No image input, or its number of channels is not declared.
    """
    source = image_input(model)
    channels = source.type.tensor_type.shape.dim[1].dim_value
    if channels < 1:
        raise UnsupportedModelError(
            f"input {source.name!r}: channels are not declared; expected a number in axis 1"
        )
    return _guard(model, source.name, channels, size, _MIN_SIZE)


def guard_map_size(model: onnx.ModelProto, tensor: str, size: Size) -> onnx.ModelProto:
    """Make the graph fail where the feature map is lower or narrower than at image size `size`.

    With the fully connected layer behind it, which fails on every other number of elements, that
    leaves exactly the trained map.

    Args:
        model: Edited in place.
        tensor: The feature map, `(batch, channels, map_height, map_width)`.
        size: The training size.

    Returns:
        `model` itself.

    Raises:
        UnsupportedModelError: The shape of `tensor` cannot be worked out.
        IllegalSizeError: The graph does not take images of `size`.
    """
    shape = infer_shapes(model, size).get(tensor)
    if shape is None or len(shape) != 4:
        raise UnsupportedModelError(
            f"tensor {tensor!r}: got shape {shape}, expected (batch, channels, height, width)"
        )
    return _guard(model, tensor, shape[1], Size(shape[2], shape[3]), _MAP_SIZE)


def _guard(
    model: onnx.ModelProto, tensor: str, channels: int, smallest: Size, name: str
) -> onnx.ModelProto:
    minimum = onnx.numpy_helper.from_array(
        np.array([smallest.height, smallest.width], np.int64), f"{name}_smallest"
    )
    for existing in model.graph.initializer:
        if existing.name == minimum.name:
            existing.CopyFrom(minimum)
            return model
    place = GraphView(model).producer(tensor)
    guarded = f"{name}_checked"
    for node in model.graph.node:
        for position, read in enumerate(node.input):
            if read == tensor:
                node.input[position] = guarded
    keep = onnx.numpy_helper.from_array(np.array([0, channels], np.int64), f"{name}_keep")
    nodes, tensors = _guard_nodes(tensor, guarded, name, opset_version(model))
    for offset, node in enumerate(nodes, start=0 if place is None else place + 1):
        model.graph.node.insert(offset, node)
    model.graph.initializer.extend([minimum, keep, *tensors])
    return model


def _guard_nodes(
    tensor: str, guarded: str, name: str, opset: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    def make(op: str, part: str, inputs: list[str], output: str, **attributes: object) -> None:
        label = f"{name}_{part}"
        nodes.append(onnx.helper.make_node(op, inputs, [output], name=label, **attributes))

    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    sides, target = f"{name}_sides", f"{name}_target"
    if opset >= _SHAPE_START_OPSET:
        make("Shape", "shape", [tensor], sides, start=2)
    else:
        last = onnx.numpy_helper.from_array(np.array([2, 3], np.int64), f"{name}_axes")
        tensors.append(last)
        make("Shape", "shape", [tensor], f"{name}_shape")
        make("Gather", "gather", [f"{name}_shape", last.name], sides, axis=0)
    make("Max", "max", [sides, f"{name}_smallest"], f"{name}_larger")
    make("Concat", "concat", [f"{name}_keep", f"{name}_larger"], target, axis=0)
    make("Reshape", "reshape", [tensor, target], guarded)
    return nodes, tensors


def is_guard(view: GraphView, index: int) -> bool:
    """Say whether a node is the Reshape of a guard, which changes nothing at a legal size."""
    reshape = view.node(index)
    if reshape.op_type != "Reshape" or len(reshape.input) != 2:
        return False
    concat = _made_by(view, reshape.input[1], "Concat")
    if concat is None or len(concat.input) != 2:
        return False
    keep = view.small_constant(concat.input[0])
    larger = _made_by(view, concat.input[1], "Max")
    if keep is None or keep.shape != (2,) or keep[0] != 0 or larger is None:
        return False
    sides = _made_by(view, larger.input[0], "Shape")
    if sides is None:
        gather = _made_by(view, larger.input[0], "Gather")
        sides = None if gather is None else _made_by(view, gather.input[0], "Shape")
    else:
        keep = keep if attribute(sides, "start", 0) == 2 else None
    return sides is not None and keep is not None and sides.input[0] == reshape.input[0]


def _made_by(view: GraphView, tensor: str, operator: str) -> onnx.NodeProto | None:
    index = view.producer(tensor)
    node = None if index is None else view.node(index)
    return node if node is not None and node.op_type == operator else None
