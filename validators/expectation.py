"""The reference's part of a validation: images and expected outputs, once for each case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anysize.errors import SourceError, UsageError
from anysize.sizes import Size, SizeRange
from anysize.validators.budget import PROFILES, float_deviation
from anysize.validators.cases import Case
from anysize.validators.inputs import BRIGHTNESS, make_images
from anysize.validators.parity import variation
from anysize.validators.references.protocol import Reference, Rejected
from anysize.validators.regions import make_regions
from anysize.validators.spool import Spool

__all__ = [
    "Arbiter",
    "CaseExpectation",
    "ImageSpec",
    "compute_expectations",
    "given_case",
    "input_files",
    "make_inputs",
    "read_inputs",
    "variations",
]

Array = NDArray[np.generic]
Arbiter = Literal["float64", "none"]

# How much larger than usual the reference's own error may be on bright images, for them to tell.
_LESS_SURE = 4.0

_INPUTS, FLOAT32, FLOAT64, ROUNDED = "inputs", "float32", "float64", "rounded"


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What the graph under test takes: one image input, and perhaps regions of it.

    Attributes:
        name: The input's name.
        channels: Of the image.
        seed: Of the images.
        vacuity_seed: Of the second images, for the vacuity guard.
        rois: Name of the input of regions, float32 `(count, 5)`; None where there is none.
        dtype: Of the image, `float32` or `float16`; the reference sees the same rounded pixels.
    """

    name: str
    channels: int
    seed: int
    vacuity_seed: int
    rois: str | None = None
    dtype: str = "float32"


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
    images: ImageSpec,
    declared: SizeRange | None,
    arbiter: Arbiter,
    spool: Spool,
    step: Callable[[str], None],
    training: Size | None = None,
    rounded: Reference | None = None,
    given: Mapping[str, Array] | None = None,
) -> tuple[CaseExpectation, ...]:
    """Make the images of each case and let the reference answer, into the spool.

    A size outside what the file itself declares counts as rejected by the reference: the bounds
    are part of the file's promise. Each size is run once more in float32 on the images of another
    seed, and the first case is repeated, to find a reference that proves nothing. Among the sizes
    that the reference takes, one case is added with other, brighter images.

    Args:
        cases: From the smallest size on.
        reference: The original.
        images: What the graph under test takes.
        declared: The sizes that the file declares legal.
        arbiter: Whether to run the reference in float64, too.
        spool: Receives images and outputs.
        step: Called before each case with what is being done.
        training: The size that the network was made for.
        rounded: The original with float16 weights, for a file in half precision.
        given: Inputs that stand in for the seeded ones of the only case.

    Returns:
        What the reference says, from the smallest size on; the bright case behind its twin.

    Raises:
        SourceError: The reference answers differently each time, or not in float64.
    """
    found: list[CaseExpectation] = []
    varies: dict[Size, tuple[float, ...]] = {}
    is_checked = False
    for case in cases:
        step(f"reference at {case}")
        inputs = given or make_inputs(case, images, images.seed)
        spool.write(case, _INPUTS, tuple(inputs.values()))
        if declared is not None and case.size not in declared:
            found.append(CaseExpectation(case, f"the file declares sizes {declared}"))
            continue
        answer = reference.run(inputs, "float32")
        if isinstance(answer, Rejected):
            found.append(CaseExpectation(case, answer.reason))
            continue
        if not is_checked:
            _refuse_random(reference, inputs, answer)
            is_checked = True
        spool.write(case, FLOAT32, answer)
        if arbiter == "float64":
            spool.write(case, FLOAT64, _arbitrate(reference, inputs, answer))
        coarse = rounded.run(inputs, "float32") if rounded is not None else None
        if isinstance(coarse, tuple):
            spool.write(case, ROUNDED, coarse)
        if case.size not in varies:
            other = reference.run(make_inputs(case, images, images.vacuity_seed), "float32")
            varies[case.size] = variations(answer, other)
        found.append(CaseExpectation(case, None, reference.output_names, varies[case.size]))
    # Half precision overflows where float32 does not.
    if given is None and rounded is None:
        _add_bright(
            found, reference, images=images, arbiter=arbiter, spool=spool, training=training
        )
    return tuple(found)


def _add_bright(
    found: list[CaseExpectation],
    reference: Reference,
    *,
    images: ImageSpec,
    arbiter: Arbiter,
    spool: Spool,
    training: Size | None,
) -> None:
    """Add a case with other, brighter images, at the training size or one of the smaller ones.

    A graph that limits a value, and a session that answers by the shape of its input, are right on
    images of one kind. Bright scores may be saturated, and need not vary. Where bright images make
    the reference itself far less sure of its numbers there is no such case: a network that
    amplifies rounding errors would blame the runtime for its own.
    """
    taken = [one for one in found if one.rejection is None]
    batch = min((one.case.batch for one in taken), default=0)
    taken = [one for one in taken if one.case.batch == batch]
    if not taken:
        return
    trained = [one for one in taken if one.case.size == training]
    # A larger size would tell no more, and take longer.
    twin = trained[0] if trained else taken[len(taken) // 3]
    case = replace(twin.case, is_bright=True)
    inputs = make_inputs(case, images, images.seed)
    answer = reference.run(inputs, "float32")
    if isinstance(answer, Rejected) or not all(np.all(np.isfinite(array)) for array in answer):
        return
    if arbiter == "float64":
        precise = _arbitrate(reference, inputs, answer)
        usual = _budgets(spool.read(twin.case, FLOAT32), spool.read(twin.case, FLOAT64))
        if any(
            bright > _LESS_SURE * ordinary
            for bright, ordinary in zip(_budgets(answer, precise), usual, strict=True)
        ):
            return
        spool.write(case, FLOAT64, precise)
    spool.write(case, _INPUTS, tuple(inputs.values()))
    spool.write(case, FLOAT32, answer)
    varies = tuple(np.inf for _ in answer)
    bright = CaseExpectation(case, None, reference.output_names, varies)
    found.insert(found.index(twin) + 1, bright)


def _budgets(float32: tuple[Array, ...], float64: tuple[Array, ...]) -> tuple[float, ...]:
    """Return the budget that the reference's own error gives each floating-point output."""
    return tuple(
        float_deviation(one, one, precise, profile=PROFILES["strict"]).budget
        for one, precise in zip(float32, float64, strict=True)
        if np.issubdtype(one.dtype, np.floating)
    )


def read_inputs(spool: Spool, case: Case, images: ImageSpec) -> Mapping[str, Array]:
    """Read the inputs of a case back, by the names of the graph's inputs."""
    names = (images.name,) if images.rois is None else (images.name, images.rois)
    return dict(zip(names, spool.read(case, _INPUTS), strict=True))


def input_files(spool: Spool, case: Case, images: ImageSpec) -> Mapping[str, Path]:
    """Tell in which `.npy` files the inputs of a case lie, by the names of the graph's inputs."""
    names = (images.name,) if images.rois is None else (images.name, images.rois)
    return dict(zip(names, spool.files(case, _INPUTS), strict=True))


def given_case(inputs: Mapping[str, Array], images: ImageSpec) -> Case:
    """Return the size and batch of inputs that were given.

    Raises:
        UsageError: They are not what the graph takes.
    """
    names = (images.name,) if images.rois is None else (images.name, images.rois)
    if set(inputs) != set(names):
        raise UsageError(f"inputs: got {', '.join(inputs) or 'none'}, expected {', '.join(names)}")
    array = inputs[images.name]
    if array.ndim != 4 or array.shape[1] != images.channels or array.size == 0:
        raise UsageError(
            f"inputs: {images.name!r} has shape {list(array.shape)}, expected "
            f"[batch, {images.channels}, height, width]"
        )
    for name in names:
        expected = images.dtype if name == images.name else "float32"
        if inputs[name].dtype != expected:
            raise UsageError(f"inputs: {name!r} is {inputs[name].dtype}, expected {expected}")
    return Case(Size(array.shape[2], array.shape[3]), array.shape[0])


def make_inputs(case: Case, images: ImageSpec, seed: int) -> dict[str, Array]:
    """Make the inputs of a case, by the names of the graph's inputs.

    The images of a bright case come from the seed behind that of the vacuity guard.
    """
    if case.is_bright:
        seed = images.vacuity_seed + 1
    made = make_images(case.size, case.batch, channels=images.channels, seed=seed)
    if case.is_bright:
        made *= np.float32(BRIGHTNESS)
    inputs: dict[str, Array] = {images.name: made.astype(images.dtype)}
    if images.rois is not None:
        # The same regions whatever the seed: what varies shall be the image.
        inputs[images.rois] = make_regions(case.size, case.batch, seed=images.seed)
    return inputs


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
    return answer


def variations(answer: tuple[Array, ...], other: tuple[Array, ...] | Rejected) -> tuple[float, ...]:
    """Measure for each output of the reference how much it varies from one seed to another."""
    if isinstance(other, Rejected) or len(other) != len(answer):
        return tuple(np.inf for _ in answer)  # what it answers depends on more than the size
    found = [variation(first, second) for first, second in zip(answer, other, strict=True)]
    is_float = [bool(np.issubdtype(one.dtype, np.floating)) for one in answer]
    if any(is_float):
        # A class index rarely changes between two images; beside scores it need not.
        found = [v if floats else np.inf for v, floats in zip(found, is_float, strict=True)]
    return tuple(found)


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
