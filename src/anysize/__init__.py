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
    from anysize.validators import Report
    from anysize.verbs.export import ExportResult, export
    from anysize.verbs.heatmap import HeatmapResult, heatmap
    from anysize.verbs.inspect import Inspection, inspect
    from anysize.verbs.profile import OptimizationProfile, profile
    from anysize.verbs.rewrite import RewriteResult, rewrite
    from anysize.verbs.validate import validate

__version__ = VERSION

__all__ = [
    "AnysizeError",
    "ExportResult",
    "HeatmapResult",
    "Inspection",
    "OptimizationProfile",
    "Report",
    "RewriteResult",
    "Size",
    "SizeRange",
    "__version__",
    "export",
    "heatmap",
    "inspect",
    "profile",
    "rewrite",
    "validate",
]

# `import anysize` loads neither torch nor onnx nor a runtime.
__getattr__ = lazy_names(
    __name__,
    {
        "validators": ("Report",),
        "verbs.export": ("ExportResult", "export"),
        "verbs.heatmap": ("HeatmapResult", "heatmap"),
        "verbs.inspect": ("Inspection", "inspect"),
        "verbs.profile": ("OptimizationProfile", "profile"),
        "verbs.rewrite": ("RewriteResult", "rewrite"),
        "verbs.validate": ("validate",),
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
