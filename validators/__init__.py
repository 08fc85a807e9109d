"""Validators: an ONNX file × runtimes × sizes → verdicts that can be trusted blindly."""

from __future__ import annotations

from anysize.validators.auto_sizes import auto_sizes
from anysize.validators.budget import PROFILES, Tolerance
from anysize.validators.report import Cell, JoinedReport, Report, join
from anysize.validators.runtimes import (
    RUNTIMES,
    RuntimeInfo,
    get_runtime,
    list_runtimes,
    parse_runtimes,
)
from anysize.validators.validate import Progress, validate_model
from anysize.validators.verdicts import VERDICTS, Verdict, exit_code

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
