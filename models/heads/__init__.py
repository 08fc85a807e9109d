"""Heads: what stands between the last feature map and the outputs, one head per file."""

from __future__ import annotations

from anysize.models.heads.head import HeadOptions, HeadParts, HeadRequest
from anysize.models.heads.table import attach_head

__all__ = ["HeadOptions", "HeadParts", "HeadRequest", "attach_head"]
