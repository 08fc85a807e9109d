"""How much work a validation is, before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anysize.sizes import Size, SizeRange
from anysize.validators.inputs import Case, auto_sizes, plan_cases, quick_cases
from anysize.validators.run.file_under_test import FileUnderTest
from anysize.validators.run.plan import chosen_cases
from anysize.validators.run.steps import Work, validation_steps

if TYPE_CHECKING:
    from anysize.validators.spec import ValidationSpec

__all__ = ["estimated_before_s", "estimated_s"]

_SIDE: Final = 512
_TRIES: Final = 5
# How many times as long as ONNX Runtime a runtime takes, on ResNet-18; the others take up to twice.
_SLOWER: Final = {"onnx-reference": 10.0, "iree": 20.0}


def estimated_s(path: Path, spec: ValidationSpec) -> float:
    """Estimate what a validation of a file takes, by its multiply-adds and this machine's speed.

    A rough figure: networks differ in how fast a runtime is on them.

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
    return _seconds(work, cases, file.declared, training, spec)


def estimated_before_s(
    multiply_adds: int, weights: int, training: Size, spec: ValidationSpec
) -> float:
    """Estimate the same where there is no file yet.

    Args:
        multiply_adds: For one image of the training size; for others by their area.
        weights: How many the network has.
        training: The training size.
        spec: What is compared.
    """
    work = Work(lambda size: multiply_adds * size.area // training.area, weights)
    if spec.sizes == "quick":
        cases = quick_cases(training, spec.batches, cost=work.cost)
    else:
        sizes = auto_sizes(training) if isinstance(spec.sizes, str) else spec.sizes
        cases = plan_cases(sizes, spec.batches)
    return _seconds(work, cases, None, training, spec)


def _seconds(
    work: Work,
    cases: Sequence[Case],
    declared: SizeRange | None,
    training: Size | None,
    spec: ValidationSpec,
) -> float:
    names = [one if isinstance(one, str) else one.name for one in spec.runtimes]
    steps = validation_steps(
        None,
        cases,
        declared,
        training,
        names,
        work,
        is_repeated=spec.is_repeated,
        is_amplified=spec.amplified,
    )
    amounts = steps.work.items()
    return sum(amount * _SLOWER.get(phase, 1.0) for phase, amount in amounts) / _speed()


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
