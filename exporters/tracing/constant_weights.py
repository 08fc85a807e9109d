"""What a layer computes from its parameters alone, computed once.

Weight standardisation, weight normalisation, a branch scaled by a parameter, a table of positions
looked up by constants: the image has no part in them, and a file should hold the result. It is
computed in float64 and rounded at the end, operator by operator, by onnx's own evaluator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from anysize.exporters.tracing.batch_norm import BATCH_NORM
from anysize.exporters.tracing.initializers import add_initializer
from anysize.exporters.tracing.placeholder import WHOLE

__all__ = ["fold_weights"]

_EPSILON, _SMALL = 1e-5, 4096
# A weight that is only turned round stays as it is: the layer behind it, or the runtime, turns it.
_MOVING = frozenset({"Identity", "Transpose"})


def fold_weights(model: ir.Model, *, most: int = _SMALL) -> int:
    """Compute, in place, every node of a traced graph that no input has a part in.

    A result that comes from one parameter, which nothing else reads, has that parameter's name; of
    several from the same one, as of a projection that is split, the first has.

    Args:
        model: A traced graph, with its weights. Their values are not changed.
        most: Elements of what is made of fewer than a quarter of them; a larger result stays as it
            is written.

    Returns:
        How many nodes were computed.
    """
    graph, known = model.graph, _Known(most)
    computed = [node for node in graph if known.compute(node, model.opset_imports)]
    removed = set(computed)
    for node in computed:
        for value in node.outputs:
            if any(use.node not in removed for use in value.uses()):
                value.replace_all_uses_with(known.parameter(value, graph, removed))
    graph.remove(computed, safe=True)
    return len(computed)


class _Known:
    """Values that are known before any image is, in float64 where they are not integers."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[ir.Value, npt.NDArray[Any]] = {}
        self._sources: dict[ir.Value, frozenset[ir.Value]] = {}

    def compute(self, node: ir.Node, opsets: Mapping[str, int]) -> bool:
        """Compute a node's outputs, if its inputs are known; returns whether it did."""
        inputs = [value for value in node.inputs if value is not None]
        if not inputs or any(value.is_graph_output() for value in node.outputs):
            return False
        if WHOLE in node.attributes:
            return False
        if any(value not in self._values and value.const_value is None for value in inputs):
            return False
        is_parameter = node.op_type in _MOVING and inputs[0].const_value is not None
        if is_parameter or any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
            return False
        results = self._results(node, opsets)
        if results is None or _is_grown(results, node, self._most):
            return False
        sources = frozenset().union(*(self._sources.get(v, frozenset({v})) for v in inputs))
        for value, result in zip(node.outputs, results, strict=False):
            self._values[value] = result
            self._sources[value] = sources
        return True

    def _results(self, node: ir.Node, opsets: Mapping[str, int]) -> list[npt.NDArray[Any]] | None:
        arrays = [None if value is None else self._array(value) for value in node.inputs]
        if node.op_type == BATCH_NORM and node.domain:
            is_running = len(node.inputs) > 3 and node.inputs[3] is not None
            return None if is_running else [_standardised(node, arrays)]
        if node.domain not in ("", "ai.onnx"):
            return None
        return _evaluated(node, arrays, opsets[""])

    def _array(self, value: ir.Value) -> npt.NDArray[Any]:
        if value in self._values:
            return self._values[value]
        assert value.const_value is not None
        return _double(value.const_value.numpy())

    def parameter(self, value: ir.Value, graph: ir.Graph, removed: set[ir.Node]) -> ir.Value:
        """Make a parameter of a computed value."""
        array = self._values[value]
        if value.dtype is not None:
            array = array.astype(value.dtype.numpy())
        elif np.issubdtype(array.dtype, np.floating):
            array = array.astype(np.float32)
        tensor = ir.tensor(np.ascontiguousarray(array))
        sources = [s for s in self._sources[value] if s.name and "/" not in s.name]
        name = value.name or ""
        if len(sources) == 1 and all(use.node in removed for use in sources[0].uses()):
            (source,) = sources
            if source.name and graph.initializers.get(source.name) is source:
                name = source.name
                del graph.initializers[name]
        return add_initializer(graph, name, tensor)


def _is_grown(results: list[npt.NDArray[Any]], node: ir.Node, most: int) -> bool:
    """Say whether a node makes much of little: a repeated table is smaller as it stands."""
    given = sum(math.prod(v.shape.numpy()) for v in node.inputs if v is not None and v.shape)
    return sum(array.size for array in results) > max(4 * given, most)


def _double(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array


def _standardised(node: ir.Node, arrays: list[npt.NDArray[Any] | None]) -> npt.NDArray[Any]:
    """Normalise each channel by its own mean and its own, biased, variance."""
    source = arrays[0]
    assert source is not None
    axes = (0, *range(2, source.ndim))
    sides = [1, -1, *(1 for _ in axes[1:])]
    centred = source - source.mean(axes, keepdims=True)
    epsilon = node.attributes.get_float("epsilon", _EPSILON)
    variance = np.square(centred).mean(axes, keepdims=True)
    result: npt.NDArray[Any] = centred / np.sqrt(variance + epsilon)
    weight, bias = (*arrays[1:3], None, None)[:2]
    if weight is not None:
        result = result * weight.reshape(sides)
    return result if bias is None else result + bias.reshape(sides)


def _evaluated(
    node: ir.Node, arrays: list[npt.NDArray[Any] | None], opset: int
) -> list[npt.NDArray[Any]] | None:
    """Run one node; None where the evaluator cannot, so that the node stays."""
    proto = ir.to_proto(node)
    for attribute in proto.attribute:
        if proto.op_type == "Cast" and attribute.name == "to" and attribute.i in _FLOATS:
            attribute.i = onnx.TensorProto.DOUBLE
    names = (name for name in proto.input if name)
    values = (array for array in arrays if array is not None)
    try:
        evaluator = ReferenceEvaluator(proto, opsets={"": opset})
        found = evaluator.run(None, dict(zip(names, values, strict=True)))
    except Exception:  # an operator that it lacks, or lacks in float64
        return None
    return [_double(np.asarray(array)) for array in found]


_FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
