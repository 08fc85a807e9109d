"""Operators that ONNX lacks, written with those that it has, exact at every size and opset."""

from __future__ import annotations

from anysize.surgery.operators.adaptive_average import emit_adaptive_average_pool
from anysize.surgery.operators.adaptive_max import emit_max_pyramid, reduce_bins
from anysize.surgery.operators.bilinear_resize import emit_bilinear_resize
from anysize.surgery.operators.emitter import Emitter
from anysize.surgery.operators.spellings import axis_length

__all__ = [
    "Emitter",
    "axis_length",
    "emit_adaptive_average_pool",
    "emit_bilinear_resize",
    "emit_max_pyramid",
    "reduce_bins",
]
