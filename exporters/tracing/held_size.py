"""What a static trace cannot let go of, where a symbolic one may."""

from __future__ import annotations

from anysize.errors import ExportError

__all__ = ["HeldSizeError"]


class HeldSizeError(ExportError):
    """A graph would hold on to the batch or the size of the image that it was traced with."""
