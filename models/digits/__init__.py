"""The trained digits classifier: its scans, its training, its weights and the demo's page."""

from __future__ import annotations

from anysize.models.digits.detect import Detection, detect
from anysize.models.digits.page import PageDigit, load_page

__all__ = [
    "Detection",
    "PageDigit",
    "detect",
    "load_page",
]
