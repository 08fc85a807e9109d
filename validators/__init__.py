"""Validators: an ONNX file × runtimes × sizes → verdicts that can be trusted blindly.

Every worker imports a module of this package, and needs none of these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.lazy import lazy_names

if TYPE_CHECKING:
    from anysize.validators.inputs import auto_sizes
    from anysize.validators.judging import PROFILES, VERDICTS, Tolerance, Verdict, exit_code
    from anysize.validators.proof import prove_rewrite
    from anysize.validators.report import Cell, JoinedReport, Report, join
    from anysize.validators.rewrite_proof import RewriteProof
    from anysize.validators.runtimes import RUNTIMES
    from anysize.validators.spec import ValidationSpec
    from anysize.validators.validate import Progress, validate_model
    from anysize.validators.worker import RuntimeInfo, get_runtime, list_runtimes, parse_runtimes

__all__ = [
    "PROFILES",
    "RUNTIMES",
    "VERDICTS",
    "Cell",
    "JoinedReport",
    "Progress",
    "Report",
    "RewriteProof",
    "RuntimeInfo",
    "Tolerance",
    "ValidationSpec",
    "Verdict",
    "auto_sizes",
    "exit_code",
    "get_runtime",
    "join",
    "list_runtimes",
    "parse_runtimes",
    "prove_rewrite",
    "validate_model",
]

__getattr__ = lazy_names(
    __name__,
    {
        "inputs": ("auto_sizes",),
        "judging": ("PROFILES", "Tolerance", "VERDICTS", "Verdict", "exit_code"),
        "proof": ("prove_rewrite",),
        "report": ("Cell", "JoinedReport", "Report", "join"),
        "rewrite_proof": ("RewriteProof",),
        "runtimes": ("RUNTIMES",),
        "spec": ("ValidationSpec",),
        "worker": ("RuntimeInfo", "get_runtime", "list_runtimes", "parse_runtimes"),
        "validate": ("Progress", "validate_model"),
    },
)
