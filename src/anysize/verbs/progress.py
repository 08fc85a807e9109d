"""How a verb tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from anysize.words import duration_text

if TYPE_CHECKING:
    from anysize.validators import Progress as ValidationProgress

__all__ = ["Progress", "silent", "validation_progress"]

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
    return "" if seconds is None else f", {duration_text(seconds)} left"
