"""The version of this package, for everything that records it."""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "0.1.0"
