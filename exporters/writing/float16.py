"""float16: weights and body in float16, inputs and outputs in float32.

The finished graph is converted, one tensor at a time. Two kinds of nodes stay in float32, with a
Cast where they meet the others:

- those whose sums or intermediate values pass 65504 while their results do not: means over a map,
  normalisations, exponentials, regions. Runtimes differ there: ONNX Runtime's CPU provider computes
  nearly everything in float32 and rounds in between (measured with 1.31: of the operators of a
  classifier only Clip, LayerNormalization and those that move data have float16 kernels), onnx's
  evaluator sums an AveragePool in float16.
- those that compute on numbers made from sizes, the bins of a pooling and the sampling points of a
  resize, which float16 cannot hold exactly from 2049 on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from anysize.errors import ExportError, ModelFileError
from anysize.exporters.writing.clean_graph import drop_unused
from anysize.surgery.storage import HeldWeights, check, element_count, inferred_values

__all__ = ["to_float16"]

_LARGEST = float(np.finfo(np.float16).max)

_KEPT_FLOAT32 = frozenset(
    {
        "AveragePool", "BatchNormalization", "CumSum", "Exp", "GlobalAveragePool", "GlobalLpPool",
        "GroupNormalization", "InstanceNormalization", "LRN", "LayerNormalization", "LogSoftmax",
        "LpNormalization", "MaxRoiPool", "Mean", "MeanVarianceNormalization", "Mish", "Pow",
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd",
        "ReduceSum", "ReduceSumSquare", "Resize", "RoiAlign", "Softmax", "Softplus", "Sqrt", "Sum",
    }
)  # fmt: skip
_MEASURING = frozenset({"Shape", "Size"})  # read no element


def to_float16(model: onnx.ModelProto, weights: HeldWeights) -> None:
    """Convert a float32 graph to float16 between its inputs and outputs, in place.

    Inputs and outputs keep names and types; integers stay as they are.

    Args:
        model: The graph.
        weights: What holds its large weights; it gets those in float16, too.

    Raises:
        ExportError: A weight is outside float16's range, or an operator does not take float16.
    """
    conversion = _Conversion(model, weights)
    for node in list(model.graph.node):
        conversion.add(node)
    conversion.finish()
    drop_unused(model)
    try:
        check(model)
    except ModelFileError as error:
        raise ExportError(f"half precision: {error}; export it without") from error


@dataclass(slots=True)
class _Tensor:
    """A computed float32 tensor of the old graph.

    Attributes:
        kind: The type that the new graph computes it in.
        is_from_sizes: It is made from sizes and constants alone.
        names: Where the new graph has it, by type.
    """

    kind: int
    is_from_sizes: bool
    names: dict[int, str]


class _Conversion:
    """One walk over the nodes, in order; weights follow at its end."""

    def __init__(self, model: onnx.ModelProto, weights: HeldWeights) -> None:
        self._held = weights
        self._graph = model.graph
        self._is_float = {
            name
            for name, value in inferred_values(model).items()
            if value.type.tensor_type.elem_type == TensorProto.FLOAT
        }
        self._weights = {
            tensor.name: tensor
            for tensor in self._graph.initializer
            if tensor.data_type == TensorProto.FLOAT
        }
        self._tensors = {
            value.name: _Tensor(
                TensorProto.FLOAT, is_from_sizes=False, names={TensorProto.FLOAT: value.name}
            )
            for value in self._graph.input
            if value.name in self._is_float
        }
        self._outputs = [value.name for value in self._graph.output]
        self._nodes: list[onnx.NodeProto] = []

    def add(self, node: onnx.NodeProto) -> None:
        """Write a node of the old graph into the new one, with the Casts that it needs."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        computed = [self._tensors[name] for name in node.input if name in self._tensors]
        is_from_sizes = all(tensor.is_from_sizes for tensor in computed)
        kind = self._kind(node, computed)
        for place, name in enumerate(node.input):
            if name in self._tensors:
                any_kind = self._tensors[name].kind
                copy.input[place] = self._as(name, any_kind if node.op_type in _MEASURING else kind)
            elif name in self._weights and kind == TensorProto.FLOAT16:
                copy.input[place] = _float16_name(name)
        for place, name in enumerate(node.output):
            if name in self._is_float:
                if kind == TensorProto.FLOAT16 and name in self._outputs:
                    copy.output[place] = _float16_name(name)
                self._tensors[name] = _Tensor(kind, is_from_sizes, {kind: copy.output[place]})
        self._nodes.append(copy)

    def finish(self) -> None:
        """Cast the outputs, convert the weights, and put the new graph in place of the old one."""
        for name in self._outputs:
            if name in self._tensors:
                self._as(name, TensorProto.FLOAT)
        self._convert_weights()
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]

    def _kind(self, node: onnx.NodeProto, computed: list[_Tensor]) -> int:
        """Say in which type a node computes."""
        weights = [name for name in node.input if name in self._weights]
        stays = (
            node.op_type == "Cast"
            or node.op_type in _KEPT_FLOAT32
            or any(tensor.is_from_sizes for tensor in computed)
            or any(self._is_lost(name) for name in weights)
            # Nothing is gained before the next layer with weights.
            or (not weights and all(tensor.kind == TensorProto.FLOAT for tensor in computed))
        )
        return int(TensorProto.FLOAT if stays else TensorProto.FLOAT16)

    def _is_lost(self, name: str) -> bool:
        """Say whether float16 cannot hold a scalar: an ε that keeps a quotient finite, say."""
        tensor = self._weights[name]
        if element_count(tensor) != 1:
            return False
        value = float(numpy_helper.to_array(tensor).reshape(-1)[0])
        with np.errstate(over="ignore"):
            rounded = float(np.float16(value))
        return rounded != value and (rounded == 0.0 or np.isinf(rounded))

    def _as(self, name: str, kind: int) -> str:
        names = self._tensors[name].names
        if kind not in names:
            (source,) = names.values()
            # An output that is computed in float16 leaves its name to the Cast.
            is_output = name in self._outputs
            result = _float16_name(name) if kind == TensorProto.FLOAT16 else f"{name}/float32"
            names[kind] = name if is_output and kind == TensorProto.FLOAT else result
            self._nodes.append(
                helper.make_node("Cast", [source], [names[kind]], name=names[kind], to=kind)
            )
        return names[kind]

    def _convert_weights(self) -> None:
        """Convert each weight where it is; one that is read in float32, too, is there twice."""
        read = {name for node in self._nodes for name in node.input}
        for name, tensor in self._weights.items():
            if _float16_name(name) not in read:
                continue
            rounded = _rounded(tensor.name, self._held.array(tensor))
            if name in read:
                self._held.set_data(self._graph.initializer.add(name=_float16_name(name)), rounded)
                continue
            self._held.set_data(tensor, rounded)
            for node in self._nodes:
                for place, source in enumerate(node.input):
                    if source == _float16_name(name):
                        node.input[place] = name


def _rounded(name: str, array: npt.NDArray[np.generic]) -> npt.NDArray[np.float16]:
    """Round a weight to float16; what is too small becomes 0, what is too large is refused."""
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float16)
    if np.isinf(rounded).any():
        outside = array[np.isinf(rounded) & np.isfinite(array)]
        if outside.size:
            raise ExportError(
                f"tensor {name!r}: {float(outside[0]):g} is outside float16, whose largest "
                f"number is {_LARGEST:g}; export it without half precision"
            )
    return rounded


def _float16_name(name: str) -> str:
    return f"{name}/float16"
