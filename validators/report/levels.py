"""How a cell looks at a glance: a class of colour, a mark and a few words, in every format.

Colour alone says nothing: each level has a mark, and its words stand in the legend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anysize.validators.judging import VERDICTS, Outcome, Verdict
from anysize.validators.report.report import Cell

__all__ = ["LEVELS", "Level", "figure", "level_of", "ratio_text"]


@dataclass(frozen=True, slots=True)
class Level:
    """One colour of the heat map.

    Attributes:
        name: Name of the level's class in the style sheet.
        mark: One letter that says it without colour.
        text: For the legend.
    """

    name: str
    mark: str
    text: str


# Upper bounds of error over budget; the last two of a failing value are far from rounding.
_GOOD = (
    (0.1, Level("good-1", "✓", "pass, error ≤ 0.1 × budget")),
    (0.3, Level("good-2", "✓", "pass, ≤ 0.3 ×")),
    (1.0, Level("good-3", "✓", "pass, ≤ 1 ×")),
)
_WRONG = (
    (10.0, Level("wrong-1", "✕", "mismatch, > 1 × budget")),
    (1000.0, Level("wrong-2", "✕", "mismatch, > 10 ×")),
    (math.inf, Level("wrong-3", "✕", "mismatch, > 1000 ×, or without measure")),
)
_REJECTED = Level("rejected", "⊘", "rejected, as the reference does")
_FAILED = Level("failed", "✕", "failed: shape, accepted, error or vacuous")
_NOT_RUN = Level("not-run", "–", "not run")
LEVELS = (*(lv for _, lv in _GOOD), _REJECTED, *(lv for _, lv in _WRONG), _FAILED, _NOT_RUN)


def level_of(cell: Cell) -> Level:
    """Place a cell by its verdict and by its error as a multiple of the budget."""
    ratio = cell.worst.deviation.ratio if cell.worst is not None else math.inf
    if cell.verdict is Verdict.PASS:
        return next((level for bound, level in _GOOD if ratio <= bound), _GOOD[-1][1])
    if cell.verdict is Verdict.MISMATCH:
        return next((level for bound, level in _WRONG if ratio <= bound), _WRONG[-1][1])
    if cell.verdict is Verdict.REJECTED:
        return _REJECTED
    outcome = VERDICTS[cell.verdict].outcome
    return _NOT_RUN if outcome is Outcome.NOT_RUN else _FAILED


def ratio_text(ratio: float) -> str:
    """Write an error as a multiple of its budget; one that fails is rounded up, so never 1."""
    if not math.isfinite(ratio):
        return "(no budget)"
    if ratio <= 1.0:
        return f"{ratio:.2f}×"
    return f"{math.ceil(ratio * 100) / 100:.2f}×" if ratio < 100 else f"{ratio:.1e}×"


def figure(cell: Cell) -> str:
    """Return the number that stands beside a verdict; "" where there is none to show."""
    if cell.worst is None or cell.verdict not in (Verdict.PASS, Verdict.MISMATCH):
        return ""
    return ratio_text(cell.worst.deviation.ratio)
