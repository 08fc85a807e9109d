"""Runtimes that a graph can be validated on: what each must do, and one table of them by name.

The runtimes themselves are imported where they run, by the table's paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.lazy import lazy_names
from anysize.validators.runtimes.protocol import (
    Availability,
    FileSession,
    Provenance,
    ProviderUse,
    Runtime,
    RuntimeDiedError,
    Session,
    TimedSession,
    as_numbers,
)
from anysize.validators.runtimes.table import RUNTIMES, RuntimeEntry, known_runtimes

if TYPE_CHECKING:
    from anysize.validators.runtimes.literal_ort import LiteralOrt, PlannedGraph
    from anysize.validators.runtimes.onnx_reference import EvaluatorSession, OnnxReferenceRuntime
    from anysize.validators.runtimes.ort_cpu import OrtCpu
    from anysize.validators.runtimes.ort_session import OrtSession

__all__ = [
    "RUNTIMES",
    "Availability",
    "EvaluatorSession",
    "FileSession",
    "LiteralOrt",
    "OnnxReferenceRuntime",
    "OrtCpu",
    "OrtSession",
    "PlannedGraph",
    "Provenance",
    "ProviderUse",
    "Runtime",
    "RuntimeDiedError",
    "RuntimeEntry",
    "Session",
    "TimedSession",
    "as_numbers",
    "known_runtimes",
]

__getattr__ = lazy_names(
    __name__,
    {
        "literal_ort": ("LiteralOrt", "PlannedGraph"),
        "onnx_reference": ("EvaluatorSession", "OnnxReferenceRuntime"),
        "ort_cpu": ("OrtCpu",),
        "ort_session": ("OrtSession",),
    },
)
