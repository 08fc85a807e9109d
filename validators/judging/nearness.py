"""Answers so near to the float32 reference that float64 could not say otherwise.

With s = max |y64|, e_ref = max |y32 − y64| / s and d = max |y − y32| / s, an answer passes where
max |y − y64| / s ≤ d + e_ref is at most factor · max(e_ref, floor). With d ≤ (factor − 2) · floor
that holds whatever e_ref is, and leaves more than the difference between s and max |y32|. So the
arbiter, which takes longer than all else, is asked about those alone that are further away.

Such an answer has been held to (factor − 2) · floor, and not to a budget that e_ref made larger. So
whether agreement tells anything depends on how far the reference varies beyond that, and not on
e_ref, either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from anysize.validators.judging.budget import Profile, Tolerances, fill_values
from anysize.validators.judging.parity import (
    DeclaredShape,
    Expected,
    Judgement,
    judge,
)
from anysize.validators.judging.verdicts import Verdict

__all__ = ["is_plain", "is_telling", "judge_near"]

Array = NDArray[np.generic]


def is_plain(answer: tuple[Array, ...]) -> bool:
    """Whether an answer has neither NaN, Inf nor fill values, which float64 has to confirm."""
    floats = (one for one in answer if np.issubdtype(one.dtype, np.floating))
    return all(np.isfinite(one).all() and not fill_values(one, None).any() for one in floats)


def judge_near(
    got: Mapping[str, Array],
    expected: Expected,
    *,
    profile: Profile,
    tolerances: Tolerances | None = None,
    declared: Mapping[str, DeclaredShape] = MappingProxyType({}),
) -> Judgement | None:
    """Judge by float32 alone; None where float64 might say otherwise.

    Args:
        got: The runtime's answer, by the names of the outputs.
        expected: What the reference answers in float32, in plain numbers.
        profile: The error profile of the runtime.
        tolerances: The user's own, in the place of the budget.
        declared: The shapes of the outputs, as the file declares them.
    """
    near = replace(profile, factor=1.0, floor=(profile.factor - 2.0) * profile.floor)
    judgement = judge(
        got,
        replace(expected, saturated=()),
        profile=near,
        tolerances=tolerances,
        declared=declared,
    )
    is_near = judgement.verdict is Verdict.PASS
    return judgement if is_near and is_telling(expected.variations, profile) else None


def is_telling(variations: Sequence[float], profile: Profile) -> bool:
    """Whether outputs vary so much that a near answer tells, whatever float64 says of this case.

    Args:
        variations: Of each output, relative to its largest value.
        profile: The error profile of the runtime.
    """
    return min(variations, default=0.0) > profile.vacuity_ratio * profile.budget(0.0)
