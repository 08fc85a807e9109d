"""The graph on its way to the file: cleaned, in the opset and the precision that were asked for."""

from __future__ import annotations

from anysize.exporters.writing.ceil_mode import ceil_mode_to_padding
from anysize.exporters.writing.clean_graph import minimise
from anysize.exporters.writing.float16 import to_half
from anysize.exporters.writing.opset import convert_opset, trace_opset
from anysize.exporters.writing.strip_trace import drop_unused_initializers, tidy

__all__ = [
    "ceil_mode_to_padding",
    "convert_opset",
    "drop_unused_initializers",
    "minimise",
    "tidy",
    "to_half",
    "trace_opset",
]
