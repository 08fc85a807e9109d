"""How far a validation is: what runs now, and how long the rest will take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from anysize.sizes import Size, SizeRange
from anysize.validators.inputs import Case, cost_of, repeated_cases
from anysize.validators.run.spool import FLOAT64

if TYPE_CHECKING:
    from anysize.surgery.graph import Model

__all__ = [
    "IN_FLOAT32",
    "IN_FLOAT64",
    "LOADING",
    "REFERENCE",
    "Progress",
    "Steps",
    "Work",
    "validation_steps",
]

# Phases: what loads, and what answers in float32; others are FLOAT64 and the names of runtimes.
LOADING, REFERENCE = "loading", "reference"


# An estimate needs something measured: seconds, and a share of the work.
_LEAST_S, _LEAST_SHARE = 1.0, 0.05
# What a run costs beside its layers, in multiply-adds: a few milliseconds.
_FIXED = 1e8
# What loading costs: a process that starts, and for each weight that is read and laid out.
_START, _WEIGHT = 1e10, 500.0
# An answer of the reference, in runs: in float32 of two images, in float64 by slower kernels.
IN_FLOAT32, IN_FLOAT64 = 2.0, 8.0
# A phase; others have the names of runtimes.
LOADING = "loading"


@dataclass(frozen=True, slots=True)
class Work:
    """What the runs of a graph take, in multiply-adds of float32.

    Attributes:
        cost: Of one image of a size.
        weights: How many the graph has.
    """

    cost: Callable[[Size], int]
    weights: int

    @classmethod
    def of(cls, model: Model, training: Size | None) -> Self:
        """Count what a graph takes."""
        from anysize.surgery.graph import Graph

        graph = Graph.of(model)
        weights = sum(math.prod(tensor.dims) for tensor in graph.model.graph.initializer)
        return cls(cost_of(graph, training), weights)

    @property
    def loading(self) -> float:
        """What it takes to start a process and to load the graph in it."""
        return _START + _WEIGHT * self.weights

    def run(self, case: Case, runs: float = 1.0) -> float:
        """Return what a case takes that runs so often."""
        return runs * (case.batch * self.cost(case.size) + _FIXED)


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

    Each phase, such as the reference or a runtime, has a speed of its own; one that has not begun
    is taken to be as fast as what has been.

    Args:
        progress: Told before each run.
        total: How many runs there will be.
        work: Phase → what all its runs take.
        clock: Tells seconds.
    """

    def __init__(
        self,
        progress: Callable[[Progress], None] | None,
        *,
        total: int,
        work: Mapping[str, float],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._progress = progress
        self._total = total
        self._clock = clock
        self._count = 0
        self._phases = {phase: _Phase(amount) for phase, amount in work.items()}
        self._running: tuple[_Phase, float, float] | None = None

    @property
    def work(self) -> Mapping[str, float]:
        """What all runs of each phase take, in multiply-adds of float32."""
        return {name: phase.work for name, phase in self._phases.items()}

    def __call__(self, text: str, phase: str = "", work: float = 0.0) -> None:
        """Say what runs now; what is of no phase tells nothing of the speed."""
        now = self._clock()
        if self._running is not None:
            before, amount, start = self._running
            before.done += amount
            before.seconds += now - start
        self._running = (self._phases[phase], work, now) if phase in self._phases else None
        self._total = max(
            self._total, self._count + 1
        )  # what turns out to be needed was not planned
        if self._progress is not None:
            self._progress(Progress(self._count, self._total, text, self._remaining_s()))
        self._count += 1

    def add(self, count: int, phase: str, work: float) -> None:
        """Plan more runs of a phase."""
        self._total += count
        self._phases[phase].work += work

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


def validation_steps(
    progress: Callable[[Progress], None] | None,
    cases: Sequence[Case],
    declared: SizeRange | None,
    training: Size | None,
    runtimes: Sequence[str],
    work: Work,
    *,
    is_repeated: bool,
    is_amplified: bool,
) -> Steps:
    """Plan all runs: each runtime loads, sweeps up and down, and runs amplified images once."""
    asked = [case for case in cases if declared is None or case.size in declared]
    usual = [case for case in asked if case.size == training][:1] or asked[:1]
    amplified = usual * is_amplified
    runs = (*cases, *amplified, *(repeated_cases(cases) if is_repeated else ()))
    amounts = {
        REFERENCE: sum(work.run(case, IN_FLOAT32) for case in (*asked, *amplified)),
        FLOAT64: 0.0,
        LOADING: len(runtimes) * work.loading,
        **dict.fromkeys(runtimes, sum(map(work.run, runs))),
    }
    total = len(cases) + len(amplified) + len(runtimes) * (1 + len(runs))
    return Steps(progress, total=total, work=amounts)
