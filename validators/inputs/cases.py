"""The cells of one model, before a runtime is chosen: which sizes and batches, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anysize.errors import UsageError
from anysize.sizes import Size

__all__ = ["MAX_BATCH", "Case", "plan_cases", "repeated_cases"]

# Beyond this a batch is a typo: its images alone would fill the memory.
MAX_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Case:
    """One size and one batch.

    Attributes:
        size: Height and width of the images.
        batch: Number of images.
        is_amplified: The images are other ones than in the case of this size and batch, and
            `AMPLIFICATION` times as bright.
    """

    size: Size
    batch: int
    is_amplified: bool = False

    def __str__(self) -> str:
        return f"{self.size} batch {self.batch}{' bright' if self.is_amplified else ''}"


def plan_cases(sizes: Iterable[Size], batches: Iterable[int] | int) -> tuple[Case, ...]:
    """Cross sizes with batches, from the smallest image to the largest, without repeats.

    Raises:
        UsageError: Nothing is left, or a batch is out of range.
    """
    batches = (batches,) if isinstance(batches, int) else tuple(dict.fromkeys(batches))
    for batch in batches:
        if type(batch) is not int or not 1 <= batch <= MAX_BATCH:
            raise UsageError(f"batch {batch}: expected a whole number from 1 to {MAX_BATCH}")
    ordered = sorted(set(sizes), key=lambda size: (size.area, size.height))
    cases = tuple(Case(size, batch) for size in ordered for batch in sorted(batches))
    if not cases:
        raise UsageError("no size or no batch to validate; give for example --sizes 224x224")
    return cases


def repeated_cases(cases: Sequence[Case]) -> frozenset[Case]:
    """Choose what is run once more: each size at one of its batches, in turn, and each batch.

    Args:
        cases: In the order in which they are run.
    """
    usual = [case for case in cases if not case.is_amplified]
    sizes: dict[Size, list[Case]] = {}
    for case in usual:
        sizes.setdefault(case.size, []).append(case)
    if any(len(sizes) < len(batches) for batches in sizes.values()):
        return frozenset(usual)
    return frozenset(batches[place % len(batches)] for place, batches in enumerate(sizes.values()))
