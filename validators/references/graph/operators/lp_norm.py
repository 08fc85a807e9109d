"""Division by the L1 or L2 norm along an axis, for the arbiter.

The evaluator of onnx 1.23 sums x and not |x| for the L1 norm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

__all__ = ["LpNormalization"]


class LpNormalization(OpRun):
    """`LpNormalization`, 0 where the norm is 0; the evaluator finds it by this name."""

    op_domain = ""

    def _run(
        self, x: NDArray[np.float64], axis: int | None = None, p: int | None = None
    ) -> tuple[Any, ...]:
        along = -1 if axis is None else axis
        order = 2 if p is None else p
        norm = np.power(np.power(np.abs(x), order).sum(axis=along, keepdims=True), 1 / order)
        return (np.where(norm == 0, 0, x / np.where(norm == 0, 1, norm)).astype(x.dtype),)
