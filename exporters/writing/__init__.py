"""The graph on its way to the file: cleaned, in the opset and the precision that were asked for."""

from __future__ import annotations

from anysize.exporters.writing.ceil_mode import ceil_mode_to_padding
from anysize.exporters.writing.clean_graph import clean_graph, drop_unused
from anysize.exporters.writing.float16 import to_float16
from anysize.exporters.writing.names import new_names, rename
from anysize.exporters.writing.opset import convert_opset, trace_opset
from anysize.exporters.writing.strip_trace import strip_trace

__all__ = [
    "ceil_mode_to_padding",
    "clean_graph",
    "convert_opset",
    "drop_unused",
    "new_names",
    "rename",
    "strip_trace",
    "to_float16",
    "trace_opset",
]
