"""Ship CNN classifiers as ONNX graphs that take any image size, and prove that they are right.

>>> import anysize
>>> anysize.export("digits", "digits.onnx", head="fcn")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.errors import AnysizeError
from anysize.lazy import lazy_names
from anysize.sizes import Size, SizeRange
from anysize.version import VERSION

if TYPE_CHECKING:
    from anysize.preprocessing import Preprocessing
    from anysize.validators import JoinedReport, Report, RuntimeInfo
    from anysize.validators.evaluation import Evaluation
    from anysize.verbs.evaluate import benchmark, evaluate
    from anysize.verbs.export import export
    from anysize.verbs.export_writing import ExportResult
    from anysize.verbs.heatmap import HeatmapResult, heatmap
    from anysize.verbs.inspect import Inspection, inspect
    from anysize.verbs.matrix import matrix, plan_matrix
    from anysize.verbs.profile import OptimizationProfile, profile
    from anysize.verbs.report import report
    from anysize.verbs.rewrite import RewriteResult, rewrite
    from anysize.verbs.runtimes import runtimes
    from anysize.verbs.validate import validate

__version__ = VERSION

__all__ = [
    "AnysizeError",
    "Evaluation",
    "ExportResult",
    "HeatmapResult",
    "Inspection",
    "JoinedReport",
    "OptimizationProfile",
    "Preprocessing",
    "Report",
    "RewriteResult",
    "RuntimeInfo",
    "Size",
    "SizeRange",
    "__version__",
    "benchmark",
    "evaluate",
    "export",
    "heatmap",
    "inspect",
    "matrix",
    "plan_matrix",
    "profile",
    "report",
    "rewrite",
    "runtimes",
    "validate",
]

# `import anysize` loads neither torch nor onnx nor a runtime.
__getattr__ = lazy_names(
    __name__,
    {
        "preprocessing": ("Preprocessing",),
        "validators": ("JoinedReport", "Report", "RuntimeInfo"),
        "validators.evaluation": ("Evaluation",),
        "verbs.evaluate": ("benchmark", "evaluate"),
        "verbs.export": ("export",),
        "verbs.export_writing": ("ExportResult",),
        "verbs.heatmap": ("HeatmapResult", "heatmap"),
        "verbs.inspect": ("Inspection", "inspect"),
        "verbs.matrix": ("matrix", "plan_matrix"),
        "verbs.profile": ("OptimizationProfile", "profile"),
        "verbs.report": ("report",),
        "verbs.rewrite": ("RewriteResult", "rewrite"),
        "verbs.runtimes": ("runtimes",),
        "verbs.validate": ("validate",),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
