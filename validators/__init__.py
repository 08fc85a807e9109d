"""Validators: an ONNX file × runtimes × sizes → verdicts that can be trusted blindly."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anysize.validators.inputs.auto_sizes import auto_sizes
    from anysize.validators.judging.budget import PROFILES, Tolerance
    from anysize.validators.judging.verdicts import VERDICTS, Verdict, exit_code
    from anysize.validators.report import Cell, JoinedReport, Report, join
    from anysize.validators.runtimes import (
        RUNTIMES,
        RuntimeInfo,
        get_runtime,
        list_runtimes,
        parse_runtimes,
    )
    from anysize.validators.validate import Progress, validate_model

__all__ = [
    "PROFILES",
    "RUNTIMES",
    "VERDICTS",
    "Cell",
    "JoinedReport",
    "Progress",
    "Report",
    "RuntimeInfo",
    "Tolerance",
    "Verdict",
    "auto_sizes",
    "exit_code",
    "get_runtime",
    "join",
    "list_runtimes",
    "parse_runtimes",
    "validate_model",
]

_HOMES = ("auto_sizes", "budget", "report", "runtimes", "validate", "verdicts")


def __getattr__(name: str) -> object:
    # Every worker imports a module of this package, and needs none of these names.
    if name in __all__:
        for home in _HOMES:
            module = importlib.import_module(f"anysize.validators.{home}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
