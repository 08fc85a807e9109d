"""Max pooling for the arbiter, as array arithmetic.

The reference evaluator visits every output cell in Python, which is 40 % of a VGG's evaluation.
A maximum rounds nothing, so taking it over shifted views gives the same bits, and right ones for
uneven pads at stride 1, whose axes the evaluator of onnx 1.23 mixes up, and for SAME_LOWER, where
it drops windows. Whatever is not a plain two-dimensional pooling is left to the evaluator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.ops.op_max_pool import MaxPool as EvaluatorMaxPool

__all__ = ["MaxPool"]


class MaxPool(EvaluatorMaxPool):
    """`MaxPool` of the reference evaluator, faster; the evaluator finds it by this name."""

    op_domain = ""

    def _run(  # type: ignore[override]  # as the evaluator's own class does
        self,
        x: NDArray[np.float64],
        auto_pad: str | None = None,
        ceil_mode: int | None = None,
        dilations: Sequence[int] | None = None,
        kernel_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        storage_order: int | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[Any, ...]:
        is_plain = (
            x.ndim == 4
            and np.issubdtype(x.dtype, np.floating)
            and not ceil_mode
            and all(step == 1 for step in dilations or ())
            and len([name for name in self.onnx_node.output if name]) == 1
            and kernel_shape is not None
        )
        if is_plain and kernel_shape is not None:
            steps = tuple(strides or (1, 1))
            if auto_pad not in (None, "NOTSET"):
                pads = _automatic(auto_pad, x.shape[2:], kernel_shape, steps)
            pooled = _pool(x, kernel_shape, tuple(pads or (0,) * 4), steps)
            if pooled is not None:
                return (pooled,)
        return tuple(
            super()._run(  # type: ignore[no-untyped-call]
                x,
                auto_pad=auto_pad,
                ceil_mode=ceil_mode,
                dilations=dilations,
                kernel_shape=kernel_shape,
                pads=pads,
                storage_order=storage_order,
                strides=strides,
            )
        )


def _automatic(
    auto_pad: str, sides: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> tuple[int, ...]:
    """Return pads for ⌈side / stride⌉ windows, the odd one at the end unless SAME_LOWER."""
    if auto_pad == "VALID":
        return (0,) * 4
    room = [
        max(0, (-(-side // step) - 1) * step + taps - side)
        for side, taps, step in zip(sides, kernel, strides, strict=True)
    ]
    begin = [pad - pad // 2 if auto_pad == "SAME_LOWER" else pad // 2 for pad in room]
    return (*begin, *(pad - before for pad, before in zip(room, begin, strict=True)))


def _pool(
    x: NDArray[np.float64],
    kernel: Sequence[int],
    pads: tuple[int, ...],
    strides: tuple[int, ...],
) -> NDArray[np.float64] | None:
    """Pool `(batch, channels, height, width)`; None where no cell is left."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=-np.inf)
    rows = (padded.shape[2] - kernel[0]) // strides[0] + 1
    columns = (padded.shape[3] - kernel[1]) // strides[1] + 1
    if rows < 1 or columns < 1:
        return None
    pooled = np.full((*x.shape[:2], rows, columns), -np.inf, x.dtype)
    for down in range(kernel[0]):
        for across in range(kernel[1]):
            view = padded[
                :,
                :,
                down : down + (rows - 1) * strides[0] + 1 : strides[0],
                across : across + (columns - 1) * strides[1] + 1 : strides[1],
            ]
            np.maximum(pooled, view, out=pooled)
    return pooled
