"""How much work a validation is, before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anysize.sizes import Size, SizeRange
from anysize.validators.inputs import Case, plan_cases
from anysize.validators.run.asking import REFERENCE
from anysize.validators.run.file_under_test import FileUnderTest
from anysize.validators.run.plan import chosen_cases
from anysize.validators.run.spool import FLOAT64
from anysize.validators.run.steps import IN_FLOAT32, LOADING, Work

if TYPE_CHECKING:
    from anysize.validators.spec import ValidationSpec

__all__ = ["estimated_s", "phase_work", "usual_cases"]

_SIDE: Final = 512
_TRIES: Final = 5


def usual_cases(
    cases: Sequence[Case], declared: SizeRange | None, training: Size | None
) -> list[Case]:
    """Return the case at the training size, or the first that the file takes."""
    asked = [case for case in cases if declared is None or case.size in declared]
    return [case for case in asked if case.size == training][:1] or asked[:1]


def phase_work(
    cases: Sequence[Case],
    declared: SizeRange | None,
    training: Size | None,
    runtimes: Sequence[str],
    work: Work,
    *,
    sweeps: int,
    is_amplified: bool,
) -> dict[str, float]:
    """Plan all runs: each runtime loads, sweeps over all cases, and runs amplified images once.

    Returns:
        Phase → multiply-adds.
    """
    asked = [case for case in cases if declared is None or case.size in declared]
    amplified = usual_cases(cases, declared, training) * is_amplified
    swept = sweeps * sum(work.run(case) for case in cases) + sum(map(work.run, amplified))
    return {
        REFERENCE: sum(work.run(case, IN_FLOAT32) for case in (*asked, *amplified)),
        FLOAT64: 0.0,
        LOADING: len(runtimes) * work.loading,
        **dict.fromkeys(runtimes, swept),
    }


def estimated_s(path: Path, spec: ValidationSpec) -> float:
    """Estimate what a validation of a file takes, by its multiply-adds and this machine's speed.

    A rough figure: runtimes differ, and slow ones take several times as long.

    Raises:
        ModelFileError: The file is unreadable, invalid or unsafe.
        UsageError: There is nothing to take sizes from.
    """
    from anysize.surgery import trained_size

    file = FileUnderTest.read(path)
    training = trained_size(file.model)
    work = Work.of(file.model, training)
    cases = (
        chosen_cases(file, training, spec.batches, cost=work.cost, is_quick=spec.sizes == "quick")
        if isinstance(spec.sizes, str)
        else plan_cases(spec.sizes, spec.batches)
    )
    names = [one if isinstance(one, str) else one.name for one in spec.runtimes]
    phases = phase_work(
        cases,
        file.declared,
        training,
        names,
        work,
        sweeps=1 + spec.is_repeated,
        is_amplified=spec.amplified,
    )
    return sum(phases.values()) / _speed()


def _speed() -> float:
    """Measure this machine's multiply-adds in a second, in float32."""
    import numpy as np

    matrix = np.ones((_SIDE, _SIDE), np.float32)
    shortest = float("inf")
    for _ in range(_TRIES):
        start = time.perf_counter()
        matrix @ matrix
        shortest = min(shortest, time.perf_counter() - start)
    return float(_SIDE**3 / shortest)
