"""Other, brighter images, which find graphs that limit a value or answer by shape."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from anysize.validators.inputs import Case, GraphInputs, make_inputs
from anysize.validators.judging import PROFILES, float_deviation
from anysize.validators.references import Reference, Rejected
from anysize.validators.run.vacuity import OTHER_SEEDS, WholeNumbers

__all__ = ["NO_AMPLIFIED", "amplify", "is_less_sure", "overflows"]

Array = NDArray[np.generic]

# How notes begin that say why.
NO_AMPLIFIED = "no case has brighter images"
# How much larger than usual the reference's own error may be on amplified images, for them to tell.
_LESS_SURE = 4.0


def amplify(
    case: Case, reference: Reference, signature: GraphInputs, whole: WholeNumbers
) -> tuple[Mapping[str, Array], tuple[Array, ...] | Rejected]:
    """Make amplified images, and let the reference answer.

    Where labels have been the same ones so far, images are taken that have others, if a few seeds
    lead to some.

    Args:
        case: Size and batch; it is an amplified one.
        reference: The original.
        signature: What the graph under test takes.
        whole: What has been seen of whole numbers so far.
    """
    first: tuple[Mapping[str, Array], tuple[Array, ...] | Rejected] | None = None
    for shift in OTHER_SEEDS:
        seed = signature.vacuity_seed + 1 + shift
        inputs = make_inputs(case, signature, seed, is_tinted=shift > 0)
        answer = reference.run(inputs, "float32")
        first = first or (inputs, answer)
        if isinstance(answer, Rejected) or whole.settles(answer):
            return inputs, answer
    assert first is not None
    return first


def overflows(amplified: tuple[Array, ...], usual: tuple[Array, ...]) -> bool:
    """Whether amplified images lead to a NaN or an Inf in an output that has none of its own."""
    return any(
        np.all(np.isfinite(before)) and not np.all(np.isfinite(one))
        for one, before in zip(amplified, usual, strict=False)
    )


def is_less_sure(
    amplified: tuple[Array, ...],
    amplified64: tuple[Array, ...],
    usual: tuple[Array, ...],
    usual64: tuple[Array, ...],
) -> bool:
    """Whether the reference's own error is far larger on amplified images than on usual ones."""
    pairs = zip(_budgets(amplified, amplified64), _budgets(usual, usual64), strict=True)
    return any(larger > _LESS_SURE * ordinary for larger, ordinary in pairs)


def _budgets(float32: tuple[Array, ...], float64: tuple[Array, ...]) -> tuple[float, ...]:
    """Return the budget that the reference's own error gives each floating-point output."""
    return tuple(
        float_deviation(one, one, precise, profile=PROFILES["strict"]).budget
        for one, precise in zip(float32, float64, strict=True)
        if np.issubdtype(one.dtype, np.floating)
    )
