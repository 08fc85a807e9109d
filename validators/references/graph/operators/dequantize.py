"""DequantizeLinear for the arbiter, at every opset and in any precision.

The evaluator of onnx 1.23 refuses float64 below opset 19, where the specification has float32
alone. The definition is the same: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

__all__ = ["DequantizeLinear"]

Array = NDArray[np.generic]

_AXIS = 1


class DequantizeLinear(OpRun):
    """(x − zero point) · scale; the evaluator finds it by this name."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        scale: NDArray[np.floating],
        zero_point: Array | None = None,
        axis: int | None = None,
        block_size: int | None = None,
        **_: Any,
    ) -> tuple[Any, ...]:
        along = _AXIS if axis is None else axis
        numbers = x.astype(np.float64)
        if zero_point is not None and zero_point.size:
            numbers = numbers - _spread(zero_point, x.shape, along, block_size).astype(np.float64)
        factor = _spread(scale, x.shape, along, block_size).astype(np.float64)
        return ((numbers * factor).astype(scale.dtype),)


def _spread(values: Array, shape: tuple[int, ...], axis: int, block_size: int | None) -> Array:
    """Make scales broadcast over `shape`: there is one, one for each slice, or one a block."""
    if values.size == 1:
        return values.reshape(())
    if block_size:
        wide = np.repeat(values, block_size, axis=axis)
        return np.take(wide, range(shape[axis]), axis=axis)
    sides = [1] * len(shape)
    sides[axis] = values.size
    return values.reshape(sides)
