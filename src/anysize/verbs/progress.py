"""How a verb tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anysize.validators import Progress as ValidationProgress

__all__ = ["Progress", "silent", "validation_progress"]

_MINUTES_FROM_S = 100.0

# Steps done, steps in total (0 where not known), and what is being done.
Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, text: str) -> None:
    """Tell nobody."""
    del done, total, text


def validation_progress(
    progress: Progress, prefix: str = ""
) -> Callable[[ValidationProgress], None]:
    """Let a validation report to `progress`, its steps named with a prefix, and what is left."""
    return lambda step: progress(
        step.done, step.total, f"{prefix}{step.text}{_left(step.remaining_s)}"
    )


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < _MINUTES_FROM_S:
        return f", about {max(seconds, 1.0):.0f} s left"
    return f", about {seconds / 60:.0f} min left"
