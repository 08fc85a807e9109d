"""A case with other, brighter images, which finds graphs that limit a value or answer by shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anysize.validators.inputs import Case, GraphInputs, make_inputs
from anysize.validators.judging import PROFILES, float_deviation
from anysize.validators.references import Reference, Rejected
from anysize.validators.run.arbiter import arbitrate
from anysize.validators.run.spool import FLOAT32, FLOAT64, Spool
from anysize.validators.run.vacuity import OTHER_SEEDS, WholeNumbers

__all__ = ["BrightCase", "find_bright"]

Array = NDArray[np.generic]

# How much larger than usual the reference's own error may be on bright images, for them to tell.
_LESS_SURE = 4.0


@dataclass(frozen=True, slots=True)
class BrightCase:
    """Bright images with what the reference makes of them.

    Attributes:
        case: Size and batch.
        inputs: By the names of the graph's inputs.
        float32: The reference's outputs.
        float64: The arbiter's, or None without an arbiter.
    """

    case: Case
    inputs: Mapping[str, Array]
    float32: tuple[Array, ...]
    float64: tuple[Array, ...] | None


def find_bright(
    twin: Case,
    reference: Reference,
    *,
    spec: GraphInputs,
    arbiter: str,
    spool: Spool,
    whole: WholeNumbers,
) -> BrightCase | str:
    """Make other, brighter images of a size and a batch, and let the reference answer.

    Where labels have been the same ones so far, images are taken that have others, if a few seeds
    lead to some. Where bright images make the reference itself far less sure of its numbers there
    is no such case: a network that amplifies rounding errors would blame the runtime for its own.

    Args:
        twin: The case on usual images.
        reference: The original.
        spec: What the graph under test takes.
        arbiter: Whether to run the reference in float64, too.
        spool: Holds what the reference answers for `twin`.
        whole: What has been seen of whole numbers so far.

    Returns:
        The case, or in words why there is none.

    Raises:
        SourceError: The reference does not answer in float64.
    """
    case = replace(twin, is_bright=True)
    inputs, answer = _bright(case, reference, spec, whole)
    if isinstance(answer, Rejected):
        return f"the reference rejects them ({answer.reason})"
    usual = spool.read(twin, FLOAT32)
    if any(_overflows(one, other) for one, other in zip(answer, usual, strict=False)):
        return "the reference overflows on them"
    if arbiter == "none":
        return BrightCase(case, inputs, answer, None)
    precise = arbitrate(reference, inputs, answer)
    pairs = zip(_budgets(answer, precise), _budgets(usual, spool.read(twin, FLOAT64)), strict=True)
    if any(bright > _LESS_SURE * ordinary for bright, ordinary in pairs):
        return "the reference itself is less sure of its numbers there"
    return BrightCase(case, inputs, answer, precise)


def _bright(
    case: Case, reference: Reference, spec: GraphInputs, whole: WholeNumbers
) -> tuple[Mapping[str, Array], tuple[Array, ...] | Rejected]:
    """Make bright images, and let the reference answer."""
    first: tuple[Mapping[str, Array], tuple[Array, ...] | Rejected] | None = None
    for shift in OTHER_SEEDS:
        seed = spec.vacuity_seed + 1 + shift
        inputs = make_inputs(case, spec, seed, is_tinted=shift > 0)
        answer = reference.run(inputs, "float32")
        first = first or (inputs, answer)
        if isinstance(answer, Rejected) or whole.settles(answer):
            return inputs, answer
    assert first is not None
    return first


def _overflows(bright: Array, usual: Array) -> bool:
    """Whether bright images lead to a NaN or an Inf in an output that has none of its own."""
    return bool(np.all(np.isfinite(usual)) and not np.all(np.isfinite(bright)))


def _budgets(float32: tuple[Array, ...], float64: tuple[Array, ...]) -> tuple[float, ...]:
    """Return the budget that the reference's own error gives each floating-point output."""
    return tuple(
        float_deviation(one, one, precise, profile=PROFILES["strict"]).budget
        for one, precise in zip(float32, float64, strict=True)
        if np.issubdtype(one.dtype, np.floating)
    )
