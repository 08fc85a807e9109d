"""The trained digits classifier: its scans, its training, its weights and the demo's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.lazy import lazy_names

if TYPE_CHECKING:
    from anysize.models.digits.detect import Detection, detect
    from anysize.models.digits.page import PageDigit, load_page

__all__ = ["Detection", "PageDigit", "detect", "load_page"]

__getattr__ = lazy_names(
    __name__, {"detect": ("Detection", "detect"), "page": ("PageDigit", "load_page")}
)
