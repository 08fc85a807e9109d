"""Batch normalisation for the arbiter, with the statistics that the file holds.

For opset 9 the evaluator of onnx 1.23 blends the statistics of the batch into them whenever there
is a momentum, which has a default: it trains. The specification says that one output is inference
(https://onnx.ai/onnx/operators/onnx__BatchNormalization.html#batchnormalization-9).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

__all__ = ["BatchNormalization"]


class BatchNormalization(OpRun):
    """`BatchNormalization` in inference; the evaluator finds it by this name."""

    op_domain = ""

    def _run(
        self,
        x: NDArray[np.float64],
        scale: NDArray[np.float64],
        bias: NDArray[np.float64],
        mean: NDArray[np.float64],
        var: NDArray[np.float64],
        epsilon: float | None = None,
        **_training: Any,
    ) -> tuple[Any, ...]:
        factor = scale / np.sqrt(var + (1e-5 if epsilon is None else epsilon))
        shift = bias - mean * factor
        # Before opset 9 every position may have statistics of its own (spatial is 0).
        sides = (-1, *(1 for _ in x.shape[2:])) if scale.ndim == 1 else scale.shape
        return ((x * factor.reshape(sides) + shift.reshape(sides)).astype(x.dtype),)
