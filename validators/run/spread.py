"""How far right float32 answers of a reference spread: drawn where a cell would fail without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from anysize.validators.judging import (
    DeclaredShape,
    Expected,
    Judgement,
    Profile,
    Tolerances,
    Verdict,
    float_error,
    judge,
    judge_near,
)
from anysize.validators.references import Perturbed, Reference, Rejected

__all__ = ["Draws", "judge_by_spread"]

Array = NDArray[np.generic]

# A normal error is beyond eight times the root mean square of sixteen with probability 6e-7.
_DRAWS = 16
# What is this many times as far away as the first four would not be let pass by all sixteen.
_FIRST_DRAWS, _HOPELESS = 4, 100.0


class Draws:
    """What has been drawn for one case: float32 answers with roundings that fall otherwise."""

    def __init__(self) -> None:
        self._squares: list[float] = []
        self._count = 0

    def spreads(
        self,
        reference: Reference,
        inputs: Mapping[str, Array],
        expected: Expected,
        errors: Sequence[float],
    ) -> tuple[float, ...]:
        """Draw as often as it takes to judge an answer.

        Args:
            reference: The original.
            inputs: By the names of the graph's inputs.
            expected: What the reference answers.
            errors: Of the answer, for each output, relative to the largest value.

        Returns:
            For each output the root mean square of the draws' errors, 0 for whole numbers; () where
            the reference cannot be asked.
        """
        while self._count < _DRAWS and not self._is_hopeless(errors):
            answer = reference.run(inputs, Perturbed(self._count))
            if isinstance(answer, Rejected) or len(answer) != len(expected.float32):
                return ()
            self._add(answer, expected)
        return self._means()

    def _add(self, answer: tuple[Array, ...], expected: Expected) -> None:
        precise = expected.float64 or (None,) * len(answer)
        self._squares = self._squares or [0.0] * len(answer)
        self._count += 1
        for place, (one, usual) in enumerate(zip(answer, expected.float32, strict=True)):
            if np.issubdtype(one.dtype, np.floating):
                self._squares[place] += float_error(one, usual, precise[place]) ** 2

    def _means(self) -> tuple[float, ...]:
        return tuple(math.sqrt(square / self._count) for square in self._squares)

    def _is_hopeless(self, errors: Sequence[float]) -> bool:
        if self._count < _FIRST_DRAWS:
            return False
        return any(e > _HOPELESS * s > 0.0 for e, s in zip(errors, self._means(), strict=True))


def judge_by_spread(
    got: Mapping[str, Array],
    expected: Expected,
    spreads: Callable[[Expected, Sequence[float]], tuple[float, ...]],
    *,
    profile: Profile,
    tolerances: Tolerances | None = None,
    declared: Mapping[str, DeclaredShape] = MappingProxyType({}),
    arbitrated: Callable[[], Expected] | None = None,
) -> Judgement:
    """Judge by the reference's one float32 answer, and, where that is too far away, by more.

    First by itself, then by float64, then by what float32 answers are worth.

    Args:
        got: The runtime's answer, by the names of the outputs.
        expected: What the reference answers.
        spreads: Tells from what is expected and the errors how far float32 answers spread; see
            `Draws`.
        profile: The error profile of the runtime.
        tolerances: The user's own, in the place of the budget.
        declared: The shapes of the outputs, as the file declares them.
        arbitrated: Asks float64 about this case; None where it has been, or is not to be.
    """
    judged = partial(judge, got, profile=profile, tolerances=tolerances, declared=declared)
    if arbitrated is not None:
        near = partial(judge_near, got, profile=profile, tolerances=tolerances, declared=declared)
        judgement = near(expected)
        if judgement is not None:
            return judgement
        expected = arbitrated()
    judgement = judged(expected)
    if judgement.verdict is not Verdict.MISMATCH or not profile.has_spread:
        return judgement
    wrong = [result for result in judgement.outputs if not result.deviation.is_within]
    has_budget = all(
        np.isfinite(result.deviation.ratio)
        and (tolerances is None or tolerances.for_output(result.name) is None)
        for result in wrong
    )
    if not has_budget:  # no budget would be large enough
        return judgement
    drawn = spreads(expected, [result.deviation.error for result in judgement.outputs])
    return judged(replace(expected, spreads=drawn))
