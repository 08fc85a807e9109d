"""Ship CNN classifiers as ONNX graphs that take any image size, and prove that they are right.

>>> import anysize
>>> anysize.export("digits", "digits.onnx", head="fcn")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from anysize.errors import AnysizeError
from anysize.sizes import Size, SizeRange

if TYPE_CHECKING:
    from anysize.validators import Report
    from anysize.verbs.export import ExportResult, export
    from anysize.verbs.heatmap import HeatmapResult, heatmap
    from anysize.verbs.inspect import Inspection, inspect
    from anysize.verbs.rewrite import RewriteResult, rewrite
    from anysize.verbs.validate import validate

__version__ = "0.1.0"

__all__ = [
    "AnysizeError",
    "ExportResult",
    "HeatmapResult",
    "Inspection",
    "Report",
    "RewriteResult",
    "Size",
    "SizeRange",
    "__version__",
    "export",
    "heatmap",
    "inspect",
    "rewrite",
    "validate",
]

# Name → module: `import anysize` loads neither torch nor onnx nor a runtime.
_LAZY = {
    "ExportResult": "anysize.verbs.export",
    "HeatmapResult": "anysize.verbs.heatmap",
    "Inspection": "anysize.verbs.inspect",
    "Report": "anysize.validators",
    "RewriteResult": "anysize.verbs.rewrite",
    "export": "anysize.verbs.export",
    "heatmap": "anysize.verbs.heatmap",
    "inspect": "anysize.verbs.inspect",
    "rewrite": "anysize.verbs.rewrite",
    "validate": "anysize.verbs.validate",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'anysize' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
