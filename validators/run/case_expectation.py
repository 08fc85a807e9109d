"""What the reference says about one case."""

from __future__ import annotations

from dataclasses import dataclass

from anysize.errors import NotRunError, WorkerTimeoutError
from anysize.validators.inputs import Case
from anysize.validators.judging import Expected, Judgement, Verdict
from anysize.validators.run.spool import FLOAT32, FLOAT64, ROUNDED, Spool
from anysize.words import one_line

__all__ = ["CaseExpectation", "failed"]


@dataclass(frozen=True, slots=True)
class CaseExpectation:
    """What the reference says about a case; its arrays are in the spool.

    Attributes:
        case: Size and batch.
        rejection: Why the reference does not take it, or None where it does.
        names: The outputs' names where the reference has them.
        variations: How much each output varies with the input.
        failure: The verdict of all its cells, where the reference did not run.
        is_promised: The file says that it takes an image of this size.
        is_taken: The file declares the size illegal, though the reference takes it and nobody
            asked for such a bound.
        quantisation: How far a quantised file's own numbers are from its original's.
    """

    case: Case
    rejection: str | None
    names: tuple[str, ...] | None = None
    variations: tuple[float, ...] = ()
    failure: Judgement | None = None
    is_promised: bool = False
    is_taken: bool = False
    quantisation: Judgement | None = None

    @property
    def is_answered(self) -> bool:
        """Whether there is something to compare with."""
        return self.rejection is None and self.failure is None

    def read(self, spool: Spool) -> Expected:
        """Read back what the reference answers."""
        return Expected(
            self.names,
            spool.read(self.case, FLOAT32),
            spool.read(self.case, FLOAT64) or None,
            self.variations,
            spool.read(self.case, ROUNDED) or None,
        )


def failed(exc: NotRunError) -> Judgement:
    """Say of a case that the reference ended its process, or took too long."""
    verdict = Verdict.TIMEOUT if isinstance(exc, WorkerTimeoutError) else Verdict.CRASHED
    return Judgement(verdict, one_line(exc))
