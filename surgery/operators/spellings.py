"""Operators whose form depends on the opset, each in the form that a model's opset has.

The versions are those of ONNX's operator changelog
(https://github.com/onnx/onnx/blob/main/docs/Changelog.md). Integers stay integers in every form.
"""

from __future__ import annotations

import onnx

from anysize.errors import DeclinedError
from anysize.surgery.operators.emitter import Emitter

__all__ = [
    "at_least_zero",
    "axis_length",
    "cell_numbers",
    "not_less",
    "numbers",
    "reduce_axis",
    "require_opset",
    "slice_axis",
    "smaller",
    "split_ones",
]

_SHAPE_START = 15
_AXES_AS_INPUT = {"ReduceMean": 18, "ReduceMax": 18, "Squeeze": 13}
_SPLIT_AS_INPUT = 13
_SLICE_INPUTS = 10
_INTEGER_MAX = 12
# There since 12, as a function whose shape onnx's inference does not tell.
_GREATER_OR_EQUAL = 16
_RANGE = 11
# ConstantOfShape, NonZero, and Less of integers.
_COUNTING = 9
_ONE = onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1])


def require_opset(emitter: Emitter, opset: int, what: str) -> None:
    """Decline where the model's opset is older than `opset`, which `what` needs."""
    if emitter.opset < opset:
        raise DeclinedError(
            f"opset {emitter.opset}: {what} needs opset {opset} or later; raise it with "
            f"onnx.version_converter.convert_version(model, {opset})"
        )


def axis_length(emitter: Emitter, tensor: str, axis: int) -> str:
    """Emit the length of `axis` of `tensor` as an int64 tensor of shape (1,)."""
    if emitter.opset >= _SHAPE_START:
        return emitter.node("Shape", tensor, start=axis, end=axis + 1)
    shape = emitter.node("Shape", tensor)
    return emitter.node("Gather", shape, emitter.constant([axis]), axis=0)


def numbers(emitter: Emitter, start: int, end: str, *, step: int) -> str:
    """Emit start, start + step, … below `end`, an int64 tensor of shape (1,)."""
    require_opset(emitter, _RANGE, "a range of numbers")
    if emitter.opset >= _AXES_AS_INPUT["Squeeze"]:
        end = emitter.node("Squeeze", end, emitter.constant([0]))
    else:
        end = emitter.node("Squeeze", end, axes=[0])
    return emitter.node("Range", emitter.constant(start), end, emitter.constant(step))


def cell_numbers(emitter: Emitter, length: str) -> str:
    """Emit 0, 1, … for `length` cells, an int64 tensor of shape (1,)."""
    if emitter.opset >= _RANGE:
        return numbers(emitter, 0, length, step=1)
    require_opset(emitter, _COUNTING, "counting the cells of a map")
    cells = emitter.node("NonZero", emitter.node("ConstantOfShape", length, value=_ONE))
    return emitter.node("Reshape", cells, emitter.constant([-1]))


def not_less(emitter: Emitter, left: str, right: str) -> str:
    """Emit left ≥ right."""
    if emitter.opset >= _GREATER_OR_EQUAL:
        return emitter.node("GreaterOrEqual", left, right)
    return emitter.node("Not", emitter.node("Less", left, right))


def at_least_zero(emitter: Emitter, values: str) -> str:
    """Emit max(values, 0) of int64 values."""
    if emitter.opset >= _INTEGER_MAX:
        return emitter.node("Max", values, emitter.constant([0]))
    # max(x, 0) = (x + |x|) / 2
    doubled = emitter.node("Add", values, emitter.node("Abs", values))
    return emitter.node("Div", doubled, emitter.constant([2]))


def smaller(emitter: Emitter, left: str, right: str) -> str:
    """Emit min(left, right) of int64 values."""
    if emitter.opset >= _INTEGER_MAX:
        return emitter.node("Min", left, right)
    return emitter.node("Sub", right, at_least_zero(emitter, emitter.node("Sub", right, left)))


def reduce_axis(
    emitter: Emitter, operator: str, source: str, axis: int, *, output: str = ""
) -> str:
    """Emit ReduceMean or ReduceMax along one axis, which stays with length 1."""
    if emitter.opset >= _AXES_AS_INPUT[operator]:
        axes = emitter.constant([axis])
        return emitter.node(operator, source, axes, output=output, keepdims=1)
    return emitter.node(operator, source, output=output, axes=[axis], keepdims=1)


def slice_axis(emitter: Emitter, source: str, first: str, end: str, axis: int) -> str:
    """Emit `source` from `first` to `end` along one axis; both are int64 tensors of shape (1,)."""
    require_opset(emitter, _SLICE_INPUTS, "a slice that depends on the map's size")
    return emitter.node("Slice", source, first, end, emitter.constant([axis]))


def split_ones(emitter: Emitter, values: str, count: int) -> list[str]:
    """Emit the elements of a tensor of shape (count,), each of shape (1,)."""
    unnamed = [""] * count
    if emitter.opset >= _SPLIT_AS_INPUT:
        ones = emitter.constant([1] * count)
        return emitter.nodes_out("Split", values, ones, outputs=unnamed, axis=0)
    return emitter.nodes_out("Split", values, outputs=unnamed, axis=0, split=[1] * count)
