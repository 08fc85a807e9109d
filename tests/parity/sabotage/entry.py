"""What an entry of the catalogue says: a wrong graph or runtime, and the cells that must be red."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sabotage.graph import Graph

from anysize.sizes import Size
from anysize.validators import Verdict
from anysize.validators.runtimes import Runtime

__all__ = ["Elsewhere", "Sabotage", "everywhere"]


def everywhere(size: Size, batch: int) -> bool:
    """Every cell is wrong whose size the reference accepts."""
    return True


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What one runtime makes of a file, and why; the test turns red when that changes.

    Attributes:
        verdicts: Of the wrong cells, each one of these.
        reason: Why.
        at: The cells that this is about; None for those of the entry.
    """

    verdicts: tuple[Verdict, ...]
    reason: str
    at: Callable[[Size, int], bool] | None = None


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One thing wrong with a healthy file or with what runs it.

    Attributes:
        name: In the table of `docs/validate.md`.
        twin: The healthy file.
        what: What is wrong, in a few words.
        verdict: Of the cells that are wrong.
        spoil: Makes the healthy graph wrong.
        fake: Makes a healthy runtime wrong.
        at: The cells that are wrong, by size and batch; the others must stay good.
        words: Stand in the message of each wrong cell.
        sizes: In the place of the twin's own.
    """

    name: str
    twin: str
    what: str
    verdict: Verdict
    spoil: Callable[[Graph], None] | None = None
    fake: Callable[[Runtime], Runtime] | None = None
    at: Callable[[Size, int], bool] = everywhere
    words: tuple[str, ...] = ()
    sizes: tuple[Size, ...] = ()
