"""Values of small tensors computed from shapes and constants, such as the target of a Reshape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from anysize.surgery.storage import SMALL_ELEMENTS

__all__ = ["NodeFolder"]

# What exporters write between Shape and Reshape, Resize, Expand, Slice; all without side effects.
_FOLDABLE = frozenset(
    {
        "Abs", "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div",
        "Equal",
        "Expand", "Flatten", "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less",
        "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pow", "Range",
        "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "Slice", "Split",
        "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip


class NodeFolder:
    """Evaluates one node on known values with onnx's reference evaluator."""

    def __init__(self, node: onnx.NodeProto, opset: int) -> None:
        self._node = node
        self._opset = opset
        self._evaluator: ReferenceEvaluator | None = None

    def fold(self, values: Sequence[np.ndarray | None]) -> tuple[np.ndarray, ...] | None:
        """Return the node's outputs, or None where they are not small constants.

        Args:
            values: The inputs' values, in order; None for an absent optional one.
        """
        node = self._node
        if node.op_type not in _FOLDABLE or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Constant" and any(entry.HasField("t") for entry in node.attribute):
            return None  # a tensor, read without evaluating it; value_ints and the like are not
        given = {
            name: value for name, value in zip(node.input, values, strict=True) if value is not None
        }
        if any(name and name not in given for name in node.input) or _grows(node.op_type, values):
            return None
        try:
            outputs = self._run(given)
        except Exception:  # the reference evaluator raises whatever numpy raises
            return None
        return outputs if all(output.size <= SMALL_ELEMENTS for output in outputs) else None

    def _run(self, given: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        if self._evaluator is None:
            typed = [onnx.helper.make_tensor_value_info(name, 1, None) for name in given]
            results = [onnx.helper.make_tensor_value_info(n, 1, None) for n in self._node.output]
            graph = onnx.helper.make_graph([self._node], "fold", typed, results)
            self._evaluator = ReferenceEvaluator(graph, opsets={"": self._opset})
        with np.errstate(all="ignore"):
            return tuple(np.asarray(value) for value in self._evaluator.run(None, given))


def _grows(op_type: str, values: Sequence[np.ndarray | None]) -> bool:
    """Say whether the result would be large; a hostile file must not make us allocate it."""
    if op_type == "ConstantOfShape" and values[0] is not None:
        return _elements(values[0]) > SMALL_ELEMENTS
    if op_type == "Expand" and values[1] is not None:
        return _elements(values[1]) > SMALL_ELEMENTS
    if op_type == "Range":
        start, limit, delta = (float(value) if value is not None else 0.0 for value in values)
        return delta == 0 or (limit - start) / delta > SMALL_ELEMENTS
    return False


def _elements(shape: np.ndarray) -> int:
    return math.prod(int(side) for side in shape.ravel())
