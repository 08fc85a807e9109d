"""What the proof of a rewrite found."""

from __future__ import annotations

from dataclasses import dataclass

from anysize.validators.judging import exit_code
from anysize.validators.report import Cell

__all__ = ["RewriteProof"]


@dataclass(frozen=True, slots=True)
class RewriteProof:
    """What the proof found.

    Attributes:
        cells: One for the whole original at the training size, if there is one, then one for its
            parts at each size.
        answers: How many answers of the rewritten graph equal the original's: cells of its maps, or
            images where it hands out the average alone.
        is_at_training_only: No layer was changed, so other sizes had nothing to be compared with.
    """

    cells: tuple[Cell, ...]
    answers: int
    is_at_training_only: bool = False

    @property
    def ok(self) -> bool:
        """Whether every comparison passed and there was at least one."""
        return exit_code(cell.verdict for cell in self.cells) == 0

    @property
    def worst(self) -> Cell | None:
        """The cell that failed worst, or, where none failed, the one closest to its budget."""
        return max(
            self.cells,
            key=lambda cell: (not cell.is_good, cell.ratio),
            default=None,
        )

    @property
    def message(self) -> str:
        """One line: the worst cell and what is wrong with it, or what was proved."""
        worst = self.worst
        if worst is None:
            return "nothing was compared"
        if not self.ok:
            return f"{worst.size} batch {worst.batch}: {worst.message or worst.verdict}"
        assert worst.worst is not None
        deviation, sizes = worst.worst.deviation, {cell.size for cell in self.cells}
        where = f"at {len(sizes)} sizes" if len(sizes) > 1 else f"at {worst.size}"
        return (
            f"{self.answers} answers equal {where}; largest error {deviation.error:.2e}, "
            f"budget {deviation.budget:.2e}"
        )
