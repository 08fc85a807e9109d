"""The one call into torch.onnx: what it is given, and what it is told to leave whole."""

from __future__ import annotations

from anysize.exporters.tracing.batch_norm import fold_batch_norm
from anysize.exporters.tracing.gc_pause import collector_paused
from anysize.exporters.tracing.local_response_norm import WholeLocalResponseNorm
from anysize.exporters.tracing.origin import origin, shortened
from anysize.exporters.tracing.placeholders import DOMAIN
from anysize.exporters.tracing.trace import Trace, trace

__all__ = [
    "DOMAIN",
    "Trace",
    "WholeLocalResponseNorm",
    "collector_paused",
    "fold_batch_norm",
    "origin",
    "shortened",
    "trace",
]
