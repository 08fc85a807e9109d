"""Resize with aligned corners for the arbiter.

With `align_corners` the last sample of the output lies on the last one of the input, whatever the
scale: both lengths in the specification's formula are whole numbers. The evaluator of onnx 1.23
takes the input's length times the scale for the second one, which is off where that has a fraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.ops.op_resize import Resize as EvaluatorResize

__all__ = ["Resize"]


class Resize(EvaluatorResize):
    """`Resize` of the reference evaluator, which finds it by this name."""

    op_domain = ""

    def _run(  # type: ignore[override]  # as the evaluator's own class does
        self,
        x: NDArray[np.float64],
        roi: NDArray[np.float64] | None = None,
        scales: NDArray[np.float64] | None = None,
        sizes: NDArray[np.int64] | None = None,
        coordinate_transformation_mode: str | None = None,
        axes: Sequence[int] | None = None,
        **attributes: Any,
    ) -> tuple[Any, ...]:
        if (
            coordinate_transformation_mode == "align_corners"
            and sizes is None
            and scales is not None
        ):
            lengths = [x.shape[axis] for axis in (range(x.ndim) if axes is None else axes)]
            sizes = np.floor(np.array(lengths) * scales).astype(np.int64)
            scales = None
        return tuple(
            super()._run(
                x,
                roi,
                scales,
                sizes,
                coordinate_transformation_mode=coordinate_transformation_mode,
                axes=axes,
                **attributes,
            )
        )
