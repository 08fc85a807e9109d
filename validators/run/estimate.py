"""How much work a validation is, before it begins."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anysize.validators.inputs import plan_cases
from anysize.validators.run.file_under_test import FileUnderTest
from anysize.validators.run.plan import chosen_cases
from anysize.validators.run.steps import Work, validation_steps

if TYPE_CHECKING:
    from anysize.validators.spec import ValidationSpec

__all__ = ["estimated_s"]

_SIDE: Final = 512
_TRIES: Final = 5


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
    steps = validation_steps(
        None,
        cases,
        file.declared,
        training,
        names,
        work,
        is_repeated=spec.is_repeated,
        is_amplified=spec.amplified,
    )
    return steps.work / _speed()


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
