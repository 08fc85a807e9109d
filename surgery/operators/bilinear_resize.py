"""Bilinear resize to a given size, with sampling points in exact integer arithmetic.

`Resize` computes its sampling points in float32 from a rounded scale, which at odd sizes moves them
by 1e-5 of a pixel on every runtime, each its own way. With half-pixel centres, output cell i of n
over a input cells samples at (2i+1)·a/(2n) − 1/2 = ((2i+1)·a − n) / 2n: an integer fraction. Its
floor is the first cell, its remainder the weight of the second one, both exact.

Bytes are resized in whole numbers throughout, and rounded once, half upwards: so every runtime has
the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import onnx

from anysize.surgery.operators.emitter import Emitter
from anysize.surgery.operators.spellings import (
    at_least_zero,
    axis_length,
    numbers,
    require_opset,
    smaller,
)

__all__ = ["emit_bilinear_resize"]

_WHOLE = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
_LARGEST: Mapping[int, int] = MappingProxyType(
    {onnx.TensorProto.UINT8: 255, onnx.TensorProto.UINT16: 65535}
)


def _odd_numbers(emitter: Emitter, count: int | str) -> tuple[str, str, str]:
    """Emit 1, 3, … for each of `count` cells, `count` itself and its double."""
    if isinstance(count, int):
        odd = emitter.constant(2 * np.arange(count) + 1)
        return odd, emitter.constant([count]), emitter.constant([2 * count])
    twice = emitter.node("Mul", count, emitter.constant([2]))
    return numbers(emitter, 1, twice, step=2), count, twice


def _resize_axis(
    emitter: Emitter, source: str, axis: int, count: int | str, *, elem_type: int, output: str = ""
) -> str:
    """Emit `source`, of four axes, resampled to `count` cells along `axis`.

    In whole numbers the result is 2 · `count` times as large.
    """
    length = axis_length(emitter, source, axis)
    odd, cells, denominator = _odd_numbers(emitter, count)
    position = emitter.node("Sub", emitter.node("Mul", odd, length), cells)
    numerator = at_least_zero(emitter, position)  # clamped at the border
    lower = emitter.node("Div", numerator, denominator)
    remainder = emitter.node("Sub", numerator, emitter.node("Mul", lower, denominator))
    last = emitter.node("Sub", length, emitter.constant([1]))
    upper = smaller(emitter, emitter.node("Add", lower, emitter.constant([1])), last)

    weight, denominator = (
        emitter.node("Cast", one, to=elem_type) for one in (remainder, denominator)
    )
    if elem_type not in _WHOLE:
        weight = emitter.node("Div", weight, denominator)
    if behind := 3 - axis:  # along the height the weights are a column
        weight = emitter.node("Reshape", weight, emitter.constant([-1] + [1] * behind))
    below = emitter.node("Gather", source, lower, axis=axis)
    above = emitter.node("Gather", source, upper, axis=axis)
    if elem_type in _WHOLE:
        below, above = (emitter.node("Cast", one, to=elem_type) for one in (below, above))
    step = emitter.node("Mul", emitter.node("Sub", above, below), weight)
    if elem_type in _WHOLE:
        below = emitter.node("Mul", below, denominator)
    return emitter.node("Add", below, step, output=output)


def _whole_type(largest: int, counts: Iterable[int | str]) -> int:
    """Return the type that holds all sums; tract (0.23) makes errors with lengths as int64."""
    factor = math.prod(2 * count if isinstance(count, int) else 1 << 31 for count in counts)
    is_narrow = largest * factor + factor < 1 << 31
    return _WHOLE[0] if is_narrow else _WHOLE[1]


def _rounded(emitter: Emitter, sums: str, counts: Iterable[int | str], elem_type: int) -> str:
    """Emit what was resampled to `counts` cells in whole numbers, divided by what that takes."""
    height, width = (_odd_numbers(emitter, count)[2] for count in counts)
    factor = emitter.node("Mul", height, width)
    half = emitter.node("Div", factor, emitter.constant([2]))
    factor, half = (emitter.node("Cast", one, to=elem_type) for one in (factor, half))
    return emitter.node("Div", emitter.node("Add", sums, half), factor)


def emit_bilinear_resize(
    emitter: Emitter,
    source: str,
    *,
    output: str,
    output_size: tuple[int | str, int | str],
    elem_type: int,
    axes: tuple[int, int] = (2, 3),
) -> None:
    """Emit `F.interpolate(source, output_size, mode="bilinear", align_corners=False)`.

    Args:
        emitter: Where the nodes go.
        source: Tensor name, (batch, channels, height, width) unless `axes` say otherwise.
        output: Name of the resized tensor, (batch, channels, *output_size) alike.
        output_size: Height and width of the result: a number, or the name of an int64 tensor of
            shape (1,).
        elem_type: `onnx.TensorProto.DataType` of the source.
        axes: Where the height and the width lie.

    Raises:
        DeclinedError: The opset is too old for arithmetic on shapes.
    """
    require_opset(emitter, 7, "arithmetic that broadcasts")
    (down, across), (height, width) = axes, output_size
    if elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
        rows = _resize_axis(emitter, source, down, height, elem_type=elem_type)
        _resize_axis(emitter, rows, across, width, elem_type=elem_type, output=output)
        return
    largest = _LARGEST.get(elem_type)
    wide = onnx.TensorProto.FLOAT if largest is None else _whole_type(largest, output_size)
    if largest is None:
        source = emitter.node("Cast", source, to=wide)
    rows = _resize_axis(emitter, source, down, height, elem_type=wide)
    full = _resize_axis(emitter, rows, across, width, elem_type=wide)
    if largest is not None:
        full = _rounded(emitter, full, output_size, wide)
    emitter.node("Cast", full, output=output, to=elem_type)
