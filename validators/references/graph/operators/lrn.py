"""Local response normalisation for the arbiter (Krizhevsky, Sutskever, Hinton, NIPS 2012).

The evaluator of onnx 1.23 counts the channels by the batch, and leaves all others unsquared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

__all__ = ["LRN"]


class LRN(OpRun):
    """`LRN` over the channels of `(batch, channels, ...)`; the evaluator finds it by this name."""

    op_domain = ""

    def _run(
        self,
        x: NDArray[np.float64],
        alpha: float | None = None,
        beta: float | None = None,
        bias: float | None = None,
        size: int | None = None,
    ) -> tuple[Any, ...]:
        assert size is not None
        alpha = 1e-4 if alpha is None else alpha
        beta, bias = 0.75 if beta is None else beta, 1.0 if bias is None else bias
        # Channel c sums from c − ⌊(size − 1)/2⌋ to c + ⌈(size − 1)/2⌉, as far as there are any.
        before, after = (size - 1) // 2, size // 2
        sides = [(0, 0)] * x.ndim
        sides[1] = (before, after)
        squares = np.pad(np.square(x), sides)
        channels = x.shape[1]
        total = sum(squares[:, start : start + channels] for start in range(size))
        return ((x / (bias + alpha / size * total) ** beta).astype(x.dtype),)
