"""Answers so near to the float32 reference that float64 could not say otherwise.

With s = max |y64|, e_ref = max |y32 − y64| / s and d = max |y − y32| / s, an answer passes where
max |y − y64| / s ≤ d + e_ref is at most factor · max(e_ref, floor). With d ≤ (factor − 2) · floor
that holds whatever e_ref is, and leaves more than the difference between s and max |y32|. So the
arbiter, which takes longer than all else, is asked about one case, and about those that are
further away. What it also tells is whether e_ref leaves anything to be compared: elsewhere it may
be 64 times max(e_ref, floor) of that case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from anysize.validators.judging.budget import MOST_SPREAD, Profile, Tolerances, fill_values
from anysize.validators.judging.parity import (
    VACUITY_RATIO,
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
    own_error: float,
    profile: Profile,
    tolerances: Tolerances | None = None,
    declared: Mapping[str, DeclaredShape] = MappingProxyType({}),
) -> Judgement | None:
    """Judge by float32 alone; None where float64 might say otherwise.

    Args:
        got: The runtime's answer, by the names of the outputs.
        expected: What the reference answers in float32, in plain numbers.
        own_error: What the reference loses to float32 at another case, relative to the largest
            output.
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
    if judgement.verdict is not Verdict.PASS:
        return None
    saturated = [
        float(np.max(np.abs(one), initial=0.0))
        for name, one in zip(got, expected.float32, strict=True)
        if name in expected.saturated
    ]
    is_sure = is_telling(
        expected.variations, own_error, profile=profile, part_of_one=min(saturated, default=0.0)
    )
    return judgement if is_sure else None


def is_telling(
    variations: Sequence[float], own_error: float, *, profile: Profile, part_of_one: float = 0.0
) -> bool:
    """Whether outputs vary so much that agreement tells, whatever float64 says of this case.

    Args:
        variations: Of each output, relative to its largest value.
        own_error: What the reference loses to float32 at another case.
        profile: The error profile of the runtime.
        part_of_one: The largest value of an output that saturates at 1; else 0.
    """
    elsewhere = MOST_SPREAD * max(own_error, profile.floor)
    limit = VACUITY_RATIO * profile.budget(elsewhere, part_of_one=part_of_one)
    return min(variations, default=0.0) > limit
