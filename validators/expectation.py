"""The reference's part of a validation: images and expected outputs, once for each case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anysize.errors import SourceError
from anysize.sizes import Size, SizeRange
from anysize.validators.budget import PROFILES, float_deviation
from anysize.validators.cases import Case
from anysize.validators.references.protocol import Reference, Rejected
from anysize.validators.signature import GraphInputs, make_inputs
from anysize.validators.spool import Spool
from anysize.validators.vacuity import OTHER_SEEDS, WholeNumbers, vary

__all__ = [
    "Arbiter",
    "CaseExpectation",
    "compute_expectations",
    "input_files",
    "read_inputs",
]

Array = NDArray[np.generic]
Arbiter = Literal["float64", "none"]

# How much larger than usual the reference's own error may be on bright images, for them to tell.
_LESS_SURE = 4.0

_INPUTS, FLOAT32, FLOAT64, ROUNDED = "inputs", "float32", "float64", "rounded"


@dataclass(frozen=True, slots=True)
class CaseExpectation:
    """What the reference says about a case; its arrays are in the spool.

    Attributes:
        case: Size and batch.
        rejection: Why the reference does not take it, or None where it does.
        names: The outputs' names where the reference has them.
        variations: How much each output varies with the input.
    """

    case: Case
    rejection: str | None
    names: tuple[str, ...] | None = None
    variations: tuple[float, ...] = ()


def compute_expectations(
    cases: Sequence[Case],
    reference: Reference,
    *,
    spec: GraphInputs,
    declared: SizeRange | None,
    arbiter: Arbiter,
    spool: Spool,
    step: Callable[[str], None],
    training: Size | None = None,
    rounded: Reference | None = None,
    given: Mapping[str, Array] | None = None,
    is_asked_for: bool = False,
    bright: bool = True,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[CaseExpectation, ...]:
    """Make the images of each case and let the reference answer, into the spool.

    A size outside what the file itself declares counts as rejected: the bounds are part of the
    file's promise. Each size is run once more in float32 on the images of another seed, and the
    first case is repeated, to find a reference that proves nothing. Among the sizes that the
    reference takes, one case is added with other, brighter images.

    Args:
        cases: From the smallest size on.
        reference: The original.
        spec: What the graph under test takes.
        declared: The sizes that the file declares legal.
        arbiter: Whether to run the reference in float64, too.
        spool: Receives images and outputs.
        step: Called before each case with what is being done.
        training: The size that the network was made for.
        rounded: The original with float16 weights, for a file in half precision.
        given: Inputs that stand in for the seeded ones of the only case.
        is_asked_for: Somebody named the sizes, and is told which of them the file alone rejects.
        bright: Add the case of brighter images.
        note: Told what is not checked, and why.

    Returns:
        What the reference says, from the smallest size on; the bright case behind its twin.

    Raises:
        SourceError: The reference answers differently each time, or not in float64.
    """
    found: list[CaseExpectation] = []
    varies: dict[Size, tuple[float, ...]] = {}
    taken: dict[Size, None] = {}
    # Half precision overflows where float32 does not.
    has_bright = bright and given is None and rounded is None
    whole = WholeNumbers()
    for case in cases:
        step(f"reference at {case}")
        inputs = given or make_inputs(case, spec, spec.seed)
        spool.write(case, _INPUTS, tuple(inputs.values()))
        if declared is not None and case.size not in declared:
            if is_asked_for and not isinstance(reference.run(inputs, "float32"), Rejected):
                taken[case.size] = None
            found.append(CaseExpectation(case, f"the file declares sizes {declared}"))
            continue
        answer = reference.run(inputs, "float32")
        if isinstance(answer, Rejected):
            found.append(CaseExpectation(case, answer.reason))
            continue
        if not varies:
            _refuse_random(reference, inputs, answer)
        whole.add(answer)
        spool.write(case, FLOAT32, answer)
        precise = _arbitrate(reference, inputs, answer) if arbiter == "float64" else None
        if precise is not None:
            spool.write(case, FLOAT64, precise)
        coarse = rounded.run(inputs, "float32") if rounded is not None else None
        if isinstance(coarse, tuple):
            spool.write(case, ROUNDED, coarse)
        if case.size not in varies:
            varies[case.size] = vary(
                reference,
                answer,
                precise,
                partial(make_inputs, case, spec, beside=given),
                seed=spec.vacuity_seed,
                whole=np.inf if has_bright else None,
            )
        found.append(CaseExpectation(case, None, reference.output_names, varies[case.size]))
    if taken:
        note(
            f"the file declares sizes {declared}, so that it must reject "
            f"{', '.join(map(str, taken))}; the reference takes them"
        )
    if not has_bright:
        return tuple(found)
    reason = _add_bright(
        found, reference, spec=spec, arbiter=arbiter, spool=spool, training=training, whole=whole
    )
    if reason:
        note(f"no case has brighter images: {reason}")
    return tuple(_without_variation(one, whole.constant) for one in found)


def _without_variation(one: CaseExpectation, constant: Sequence[int]) -> CaseExpectation:
    """Say that some outputs do not vary."""
    kept = (0.0 if place in constant else v for place, v in enumerate(one.variations))
    return replace(one, variations=tuple(kept))


def _add_bright(
    found: list[CaseExpectation],
    reference: Reference,
    *,
    spec: GraphInputs,
    arbiter: Arbiter,
    spool: Spool,
    training: Size | None,
    whole: WholeNumbers,
) -> str:
    """Add a case with other, brighter images, at the training size or one of the smaller ones.

    A graph that limits a value, and a session that answers by the shape of its input, are right on
    images of one kind. Bright scores may be saturated, and need not vary; where labels have been
    the same ones so far, images are taken that have others, if a few seeds lead to some. Where
    bright images make the reference itself far less sure of its numbers there is no such case: a
    network that amplifies rounding errors would blame the runtime for its own.

    Returns:
        Why there is no such case, "" where there is one.
    """
    taken = [one for one in found if one.rejection is None]
    batch = min((one.case.batch for one in taken), default=0)
    taken = [one for one in taken if one.case.batch == batch]
    if not taken:
        return ""
    trained = [one for one in taken if one.case.size == training]
    # A larger size would tell no more, and take longer.
    twin = trained[0] if trained else taken[len(taken) // 3]
    case = replace(twin.case, is_bright=True)
    inputs, answer = _bright(case, reference, spec, whole)
    if isinstance(answer, Rejected):
        return f"the reference rejects them ({answer.reason})"
    usual = spool.read(twin.case, FLOAT32)
    if any(_overflows(one, other) for one, other in zip(answer, usual, strict=False)):
        return "the reference overflows on them"
    if arbiter == "float64":
        precise = _arbitrate(reference, inputs, answer)
        budgets = _budgets(usual, spool.read(twin.case, FLOAT64))
        if any(
            bright > _LESS_SURE * ordinary
            for bright, ordinary in zip(_budgets(answer, precise), budgets, strict=True)
        ):
            return "the reference itself is less sure of its numbers there"
        spool.write(case, FLOAT64, precise)
    spool.write(case, _INPUTS, tuple(inputs.values()))
    spool.write(case, FLOAT32, answer)
    whole.add(answer)
    varies = tuple(np.inf for _ in answer)
    bright = CaseExpectation(case, None, reference.output_names, varies)
    found.insert(found.index(twin) + 1, bright)
    return ""


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


def read_inputs(spool: Spool, case: Case, spec: GraphInputs) -> Mapping[str, Array]:
    """Read the inputs of a case back, by the names of the graph's inputs."""
    return dict(zip(spec.names, spool.read(case, _INPUTS), strict=True))


def input_files(spool: Spool, case: Case, spec: GraphInputs) -> Mapping[str, Path]:
    """Tell in which `.npy` files the inputs of a case lie, by the names of the graph's inputs."""
    return dict(zip(spec.names, spool.files(case, _INPUTS), strict=True))


def _arbitrate(
    reference: Reference, inputs: Mapping[str, Array], float32: tuple[Array, ...]
) -> tuple[Array, ...]:
    answer = reference.run(inputs, "float64")
    if isinstance(answer, Rejected):
        raise SourceError(
            f"reference {reference.name}: runs in float32 but not in float64 ({answer.reason}); "
            "give --arbiter none"
        )
    shapes = ([a.shape for a in float32], [a.shape for a in answer])
    if shapes[0] != shapes[1]:
        raise SourceError(
            f"reference {reference.name}: has outputs {shapes[0]} in float32 and {shapes[1]} in "
            "float64; give --arbiter none"
        )
    for one, precise in zip(float32, answer, strict=True):
        if np.any(np.isfinite(one) & ~np.isfinite(precise)):
            raise SourceError(
                f"reference {reference.name}: answers with numbers in float32 where it has NaN or "
                "Inf in float64; give --arbiter none"
            )
    return answer


def _refuse_random(
    reference: Reference, inputs: Mapping[str, Array], answer: tuple[Array, ...]
) -> None:
    again = reference.run(inputs, "float32")
    same = not isinstance(again, Rejected) and len(again) == len(answer)
    if same and not isinstance(again, Rejected):
        same = all(map(_is_repeated, answer, again))
    if not same:
        raise SourceError(
            f"reference {reference.name}: answers differently to the same images; look for dropout "
            "or noise that does not heed .eval()"
        )


def _is_repeated(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return False
    if not np.issubdtype(first.dtype, np.floating):
        return bool(np.array_equal(first, second))
    return float_deviation(second, first, None, profile=PROFILES["strict"]).is_within
