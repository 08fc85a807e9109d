"""List the runtimes that a graph can be validated on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anysize.validators import RuntimeInfo

__all__ = ["runtimes"]


def runtimes() -> tuple[RuntimeInfo, ...]:
    """Tell of each runtime whether it runs here, its version, and what it lacks if it does not."""
    from anysize.validators.worker import list_runtimes

    return list_runtimes()
