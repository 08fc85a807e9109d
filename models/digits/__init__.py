"""The digits classifier as it is shipped: its trained weights, the demo's page, detection."""

from __future__ import annotations

from anysize.models.digits.detect import Detection, detect
from anysize.models.digits.page import Page, PageDigit, load_page

__all__ = [
    "Detection",
    "Page",
    "PageDigit",
    "detect",
    "load_page",
]
