"""The reference's part of a validation: images and expected outputs, once for each case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anysize.sizes import Size, SizeRange
from anysize.validators.inputs import Case, GraphInputs, make_inputs
from anysize.validators.references import Reference, Rejected
from anysize.validators.run.amplified import BrightCase, find_bright
from anysize.validators.run.arbiter import arbitrate, refuse_random
from anysize.validators.run.spool import FLOAT32, FLOAT64, INPUTS, ROUNDED, Spool
from anysize.validators.run.vacuity import WholeNumbers, vary

__all__ = ["CaseExpectation", "compute_expectations", "input_files", "read_inputs"]

Array = NDArray[np.generic]


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
    arbiter: str,
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
    whole = WholeNumbers()
    for case in cases:
        step(f"reference at {case}")
        inputs = given or make_inputs(case, spec, spec.seed)
        spool.write(case, INPUTS, tuple(inputs.values()))
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
            refuse_random(reference, inputs, answer)
        whole.add(answer)
        precise = arbitrate(reference, inputs, answer) if arbiter == "float64" else None
        coarse = rounded.run(inputs, "float32") if rounded is not None else None
        _store(spool, case, answer, precise, coarse)
        if case.size not in varies:
            varies[case.size] = vary(
                reference,
                answer,
                precise,
                partial(make_inputs, case, spec, beside=given),
                seed=spec.vacuity_seed,
                whole=np.inf if bright else None,
            )
        found.append(CaseExpectation(case, None, reference.output_names, varies[case.size]))
    if taken:
        note(
            f"the file declares sizes {declared}, so that it must reject "
            f"{', '.join(map(str, taken))}; the reference takes them"
        )
    twin = _twin(found, training) if bright else None
    if twin is None:
        return tuple(found)
    other = find_bright(twin.case, reference, spec=spec, arbiter=arbiter, spool=spool, whole=whole)
    if isinstance(other, BrightCase):
        spool.write(other.case, INPUTS, tuple(other.inputs.values()))
        _store(spool, other.case, other.float32, other.float64, None)
        whole.add(other.float32)
        # Bright scores may be saturated, and need not vary.
        varied = tuple(np.inf for _ in other.float32)
        bright_one = CaseExpectation(other.case, None, reference.output_names, varied)
        found.insert(found.index(twin) + 1, bright_one)
    else:
        note(f"no case has brighter images: {other}")
    return tuple(_without_variation(one, whole.constant) for one in found)


def read_inputs(spool: Spool, case: Case, spec: GraphInputs) -> Mapping[str, Array]:
    """Read the inputs of a case back, by the names of the graph's inputs."""
    return dict(zip(spec.names, spool.read(case, INPUTS), strict=True))


def input_files(spool: Spool, case: Case, spec: GraphInputs) -> Mapping[str, Path]:
    """Tell in which `.npy` files the inputs of a case lie, by the names of the graph's inputs."""
    return dict(zip(spec.names, spool.files(case, INPUTS), strict=True))


def _store(
    spool: Spool,
    case: Case,
    float32: tuple[Array, ...],
    float64: tuple[Array, ...] | None,
    rounded: tuple[Array, ...] | Rejected | None,
) -> None:
    spool.write(case, FLOAT32, float32)
    if float64 is not None:
        spool.write(case, FLOAT64, float64)
    if isinstance(rounded, tuple):
        spool.write(case, ROUNDED, rounded)


def _twin(found: Sequence[CaseExpectation], training: Size | None) -> CaseExpectation | None:
    """Choose the case that is repeated with brighter images; None where the reference takes none.

    It is the training size, or one of the smaller ones: a larger size would tell no more, and take
    longer.
    """
    taken = [one for one in found if one.rejection is None]
    batch = min((one.case.batch for one in taken), default=0)
    taken = [one for one in taken if one.case.batch == batch]
    trained = [one for one in taken if one.case.size == training]
    return trained[0] if trained else taken[len(taken) // 3] if taken else None


def _without_variation(one: CaseExpectation, constant: Sequence[int]) -> CaseExpectation:
    """Say that some outputs do not vary."""
    kept = (0.0 if place in constant else v for place, v in enumerate(one.variations))
    return replace(one, variations=tuple(kept))
