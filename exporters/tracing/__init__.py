"""The one call into torch.onnx: what it is given, and what it is told to leave whole."""

from __future__ import annotations

from anysize.exporters.tracing.batch_norm import fold_batch_norm
from anysize.exporters.tracing.gc_pause import gc_paused
from anysize.exporters.tracing.held_size import HeldSizeError
from anysize.exporters.tracing.local_response_norm import WHOLE_LOCAL_RESPONSE_NORM
from anysize.exporters.tracing.meta_module import SHAPES_AT_ONCE, on_meta
from anysize.exporters.tracing.origin import origin, shortened
from anysize.exporters.tracing.placeholder import DOMAIN
from anysize.exporters.tracing.plain_functions import SETTLED_FUNCTIONS
from anysize.exporters.tracing.ranges import fold_ranges
from anysize.exporters.tracing.replaced_functions import FunctionTable, ReplacedFunctions
from anysize.exporters.tracing.same_padding import Padded, PaddingRecord, step_of, write_padding
from anysize.exporters.tracing.trace import Trace, trace

__all__ = [
    "DOMAIN",
    "SETTLED_FUNCTIONS",
    "SHAPES_AT_ONCE",
    "WHOLE_LOCAL_RESPONSE_NORM",
    "FunctionTable",
    "HeldSizeError",
    "Padded",
    "PaddingRecord",
    "ReplacedFunctions",
    "Trace",
    "fold_batch_norm",
    "fold_ranges",
    "gc_paused",
    "on_meta",
    "origin",
    "shortened",
    "step_of",
    "trace",
    "write_padding",
]
