"""How far a validation is: what runs now, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from anysize.sizes import Size
from anysize.validators.inputs import Case
from anysize.validators.run.spool import FLOAT64

__all__ = ["REFERENCE", "Progress", "Steps"]

# The phase of the reference; others have the names of runtimes.
REFERENCE = "reference"
# Runs that an answer of the reference takes, beside a runtime's one: by phase.
_RUNS = {REFERENCE: 2.0, FLOAT64: 6.0}
# What a run costs beside its layers, in multiply-adds: a few milliseconds.
_FIXED = 1e8

# An estimate needs something measured: seconds, and a share of the work.
_LEAST_S, _LEAST_SHARE = 1.0, 0.05


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a validation stands.

    Attributes:
        done: Runs that are over.
        total: All runs.
        text: What runs now.
        remaining_s: Seconds that this and the other runs will take; None until enough of them have
            been measured.
    """

    done: int
    total: int
    text: str
    remaining_s: float | None = None


class Steps:
    """Counts runs, tells the caller, and estimates the rest by what the runs so far took.

    Each phase, the reference or a runtime, has a speed of its own, in multiply-adds; one that has
    not begun is taken to be as fast as what has been.

    Args:
        progress: Told before each run.
        total: How many runs there will be.
        runs: Phase → the cases that it runs, each as often as it does.
        cost: Multiply-adds for one image of a size.
        clock: Tells seconds.
    """

    def __init__(
        self,
        progress: Callable[[Progress], None] | None,
        *,
        total: int,
        runs: Mapping[str, Sequence[Case]],
        cost: Callable[[Size], int],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._progress = progress
        self._total = total
        self._cost = cost
        self._clock = clock
        self._count = 0
        self._phases = {
            phase: _Phase(sum(self._work(phase, case) for case in cases))
            for phase, cases in runs.items()
        }
        self._running: tuple[_Phase, float, float] | None = None

    def __call__(self, text: str, phase: str = "", case: Case | None = None) -> None:
        """Say what runs now; what is of no phase tells nothing of the speed."""
        now = self._clock()
        if self._running is not None:
            before, work, start = self._running
            before.done += work
            before.seconds += now - start
        is_measured = case is not None and phase in self._phases
        self._running = (
            (self._phases[phase], self._work(phase, case), now) if is_measured and case else None
        )
        if self._progress is not None:
            self._progress(Progress(self._count, self._total, text, self._remaining_s()))
        self._count += 1

    def _work(self, phase: str, case: Case) -> float:
        return _RUNS.get(phase, 1.0) * (case.batch * self._cost(case.size) + _FIXED)

    def _remaining_s(self) -> float | None:
        phases = self._phases.values()
        work, done, seconds = (
            sum(getattr(phase, what) for phase in phases) for what in ("work", "done", "seconds")
        )
        if seconds < _LEAST_S or done < _LEAST_SHARE * work:
            return None
        return sum(phase.remaining_s(otherwise=seconds / done) for phase in phases)


@dataclass(slots=True)
class _Phase:
    work: float
    done: float = 0.0
    seconds: float = 0.0

    def remaining_s(self, *, otherwise: float) -> float:
        """Estimate the rest, by seconds for a unit of work that others took if by nothing else."""
        is_measured = self.done >= _LEAST_SHARE * self.work > 0
        return (self.work - self.done) * (self.seconds / self.done if is_measured else otherwise)
