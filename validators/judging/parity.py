"""Judge one runtime's answer against what the reference computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from anysize.validators.judging.budget import (
    PROFILES,
    QUANTISED,
    VACUITY_RATIO,
    Deviation,
    Profile,
    Tolerance,
    Tolerances,
    exact_deviation,
    float_deviation,
)
from anysize.validators.judging.rounding import rounded_up
from anysize.validators.judging.verdicts import Verdict
from anysize.words import WITHOUT_ARBITER, cleaned, shape_text

__all__ = [
    "STRICTEST_LIMIT",
    "DeclaredShape",
    "Expected",
    "Judgement",
    "OutputResult",
    "judge",
    "variation",
]

Array = NDArray[np.generic]
DeclaredShape = Sequence[int | None]
"""The lengths of an output's axes as its file declares them; None where one is free."""

# Below it no profile and no tolerance lets an output count as varying.
STRICTEST_LIMIT = VACUITY_RATIO * PROFILES["strict"].budget(0.0)
# Of an output whose values keep their sign, from nothing to its largest one.
_LARGEST_VARIATION = 1.0
# Against a tolerance of the user's own, only the midpoint itself is ruled out.
VACUITY_RATIO_TOLERANCE = 2.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reference answers for one case.

    Attributes:
        names: Output names where the reference has them, else None.
        float32: The outputs, as the reference computes them.
        float64: The arbiter's, in the same order, or None without an arbiter.
        variations: For each output, how much it varies with the input, relative to its largest
            value (see `variation`).
        rounded: What the reference answers with float16 weights, for a file in half precision.
        spreads: For each output, how far float32 answers spread, relative to its largest value;
            () where that has not been measured.
        saturated: Names that the file has for outputs that saturate at 1.
    """

    names: tuple[str, ...] | None
    float32: tuple[Array, ...]
    float64: tuple[Array, ...] | None
    variations: tuple[float, ...]
    rounded: tuple[Array, ...] | None = None
    spreads: tuple[float, ...] = ()
    saturated: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class OutputResult:
    """How one output compares.

    Attributes:
        name: The file's name for it.
        deviation: Error, budget and the worst element.
        top1_agreement: Share of places where the largest value along the class axis (axis 1) is
            the same one as the arbiter's; None where there is no such axis.
    """

    name: str
    deviation: Deviation
    top1_agreement: float | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the reason in one line ("" for a pass) and the numbers behind it."""

    verdict: Verdict
    message: str
    outputs: tuple[OutputResult, ...] = ()


def judge(
    got: Mapping[str, Array],
    expected: Expected,
    *,
    profile: Profile,
    tolerances: Tolerances | None = None,
    declared: Mapping[str, DeclaredShape] = MappingProxyType({}),
) -> Judgement:
    """Compare all outputs: first names, order, number, shapes and types; then the values.

    What the file declares of an output's shape has to be what comes, for strict runtimes reserve
    memory by it.

    Where the reference names several outputs, names and their order must agree; a single output
    is compared whatever it is called, and so are the outputs of a reference without names, by
    position.
    """
    complaint = _structure(got, expected, profile)
    if complaint:
        return Judgement(Verdict.SHAPE, complaint)
    results = tuple(
        _compare(name, output, expected, place, profile, _own(tolerances, name))
        for place, (name, output) in enumerate(got.items())
    )
    wrong = [result for result in results if not result.deviation.is_within]
    if wrong:
        worst = max(wrong, key=lambda result: result.deviation.ratio)
        return Judgement(Verdict.MISMATCH, _describe(worst, got, expected), results)
    complaint = _declared_otherwise(got, declared)
    if complaint:
        return Judgement(Verdict.SHAPE, complaint, results)
    for result, varies in zip(results, expected.variations, strict=True):
        tolerance = _own(tolerances, result.name)
        limit = _vacuity_limit(result.deviation, profile, tolerance)
        if varies <= limit:
            message = _vacuous(result, varies, limit, profile, has_tolerance=tolerance is not None)
            return Judgement(Verdict.VACUOUS, message, results)
    return Judgement(Verdict.PASS, "", results)


def variation(first: Array, second: Array, fills: NDArray[np.bool_] | None = None) -> float:
    """Measure how much an output of the reference varies, relative to its largest value.

    It is the smaller of two: the largest change from one seed's input to another's, and the spread
    within the output where an item has more than one element (a constant image of scores cannot
    show that two classes were swapped). NaN and Inf vary by nothing.

    Args:
        first: The output for one seed, `(batch, ...)`.
        second: The output for the other seed, of the same rank; items beyond the shorter batch are
            left out.
        fills: Elements of `first` that are left out (see `budget.fill_values`), and of `second`
            where they are as large.
    """
    if first.size == 0 or second.size == 0:
        return 0.0
    batch = min(len(first), len(second)) if first.ndim else 0
    a = (first[:batch] if first.ndim else first).astype(np.float64)
    b = (second[:batch] if second.ndim else second).astype(np.float64)
    if a.shape != b.shape:
        return np.inf  # the output's shape follows the input's values
    finite = np.isfinite(a) & np.isfinite(b)
    if fills is not None and fills.any():
        lowest_fill = np.min(np.abs(first[fills]))
        finite &= ~(fills[:batch] if first.ndim else fills) & (np.abs(b) < lowest_fill)
    scale = float(np.max(np.abs(a), where=finite, initial=0.0))
    if scale == 0.0:
        return 0.0
    with np.errstate(all="ignore"):
        change = float(np.max(np.abs(a - b), where=finite, initial=0.0))
    if a.ndim >= 2 and a[0].size > 1:
        axes = tuple(range(1, a.ndim))
        highest = np.max(a, axis=axes, where=finite, initial=-scale)
        lowest = np.min(a, axis=axes, where=finite, initial=scale)
        change = min(change, float(np.max(highest - lowest)))
    return change / scale


def _own(tolerances: Tolerances | None, output: str) -> Tolerance | None:
    return None if tolerances is None else tolerances.for_output(output)


def _vacuity_limit(deviation: Deviation, profile: Profile, tolerance: Tolerance | None) -> float:
    if tolerance is None:
        return profile.vacuity_ratio * deviation.budget
    strictest = profile.vacuity_ratio * profile.budget(0.0)
    if deviation.scale == 0.0:
        return strictest
    allowed = tolerance.atol / deviation.scale + tolerance.rtol
    return max(strictest, VACUITY_RATIO_TOLERANCE * allowed)


def _vacuous(
    result: OutputResult, varies: float, limit: float, profile: Profile, *, has_tolerance: bool
) -> str:
    """Say why agreement on an output proves nothing."""
    reference = f"reference output {result.name!r}"
    if result.deviation.is_exact:
        return f"{reference} is the same for every image that was tried"
    if result.deviation.scale == 0.0:
        return f"{reference} has no number but 0, NaN and infinity for the images that were tried"
    if limit < _LARGEST_VARIATION:
        return (
            f"{reference} varies by {varies:.1e} of its largest value from one input to the next, "
            f"expected more than {limit:.1e}"
        )
    if has_tolerance:
        return f"{reference}: the tolerance is so large that a graph without an input would pass"
    own = result.deviation.reference_error
    if profile.name == QUANTISED:
        return f"{reference} may be off by {own:.1e} of its largest value by its roundings alone"
    if own < _LARGEST_VARIATION / VACUITY_RATIO**2:
        return (
            f"{reference} is at most {result.deviation.scale:.1e}, too little of the 1 at which it "
            "saturates for anything to be compared with it"
        )
    return (
        f"{reference} differs by {own:.1e} of its largest value between float32 and float64, so "
        f"that nothing can be compared with it{WITHOUT_ARBITER}"
    )


def _structure(got: Mapping[str, Array], expected: Expected, profile: Profile) -> str:
    names = tuple(got)
    if len(names) != len(expected.float32):
        wanted = f": {_listed(expected.names)}" if expected.names else ""
        return f"{len(names)} output(s): {_listed(names)}; expected {len(expected.float32)}{wanted}"
    if expected.names and len(names) > 1 and names != expected.names:
        same = sorted(names) == sorted(expected.names)
        return (
            f"outputs are {'in the order' if same else 'called'} {_listed(names)}; expected "
            f"{_listed(expected.names)}, such as output_names of torch.onnx.export gives"
        )
    for (name, output), wanted32 in zip(got.items(), expected.float32, strict=True):
        if output.shape != wanted32.shape:
            return (
                f"output {name!r} has shape {shape_text(output.shape)}, expected "
                f"{shape_text(wanted32.shape)}{_shape_hint(output, wanted32)}"
            )
        is_half = output.dtype == np.float16 and wanted32.dtype == np.float32
        if output.dtype != wanted32.dtype and not (is_half and profile.name == "float16"):
            return f"output {name!r} is {output.dtype}, expected {wanted32.dtype}"
    return ""


def _declared_otherwise(got: Mapping[str, Array], declared: Mapping[str, DeclaredShape]) -> str:
    """Say which output has another shape than the file declares; "" where none has."""
    for name, output in got.items():
        said = declared.get(name)
        if said is None:
            continue
        pairs = zip(said, output.shape, strict=False)
        if len(said) != output.ndim or any(d not in (None, length) for d, length in pairs):
            written = shape_text("?" if length is None else length for length in said)
            return (
                f"output {name!r} has shape {shape_text(output.shape)}, and the file declares "
                f"{written}"
            )
    return ""


def _shape_hint(output: Array, wanted: Array) -> str:
    if output.ndim and wanted.ndim and output.shape[1:] == wanted.shape[1:]:
        return "; the batch is not kept, as when a Reshape folds space into it"
    if output.ndim == wanted.ndim:
        return "; look for a Reshape or a pooling window that was baked at another size"
    return ""


def _listed(names: Sequence[str]) -> str:
    """Write names on one line, whatever is in them."""
    return ", ".join(cleaned(name) for name in names)


def _compare(
    name: str,
    output: Array,
    expected: Expected,
    place: int,
    profile: Profile,
    tolerance: Tolerance | None,
) -> OutputResult:
    float32 = expected.float32[place]
    float64 = expected.float64[place] if expected.float64 else None
    if np.issubdtype(float32.dtype, np.floating):
        deviation = float_deviation(
            output,
            float32,
            float64,
            profile=profile,
            tolerance=tolerance,
            rounded=expected.rounded[place] if expected.rounded else None,
            spread=expected.spreads[place] if expected.spreads else 0.0,
            saturates=name in expected.saturated,
        )
        arbiter = float32 if float64 is None else float64
        return OutputResult(name, deviation, _top1_agreement(output, arbiter))
    return OutputResult(name, exact_deviation(output, float32), None)


def _top1_agreement(output: Array, arbiter: Array) -> float | None:
    if output.ndim < 2 or output.shape[1] < 2 or output.size == 0:
        return None
    agree = np.argmax(output, axis=1) == np.argmax(arbiter, axis=1)
    return float(np.mean(agree))


def _describe(result: OutputResult, got: Mapping[str, Array], expected: Expected) -> str:
    deviation = result.deviation
    place = f"output {result.name!r} at {list(deviation.index)}"
    values = f"got {deviation.got:.9g}, expected {deviation.expected:.9g}"
    if deviation.non_finite:
        return f"{place}: {values}, and only one of them is finite"
    if deviation.is_exact:
        return f"{place}: {values}, expected to be equal"
    pattern = _batch_pattern(result.name, got, expected)
    ratio = rounded_up(deviation.ratio)
    return (
        f"{place}: {values}; error {deviation.error:.2e} is {ratio} x the budget of "
        f"{deviation.budget:.2e}{pattern}"
    )


def _batch_pattern(name: str, got: Mapping[str, Array], expected: Expected) -> str:
    """Name the commonest batch mistake: every item answers for the first one."""
    output = got[name]
    wanted = expected.float32[list(got).index(name)]
    if output.ndim < 2 or len(output) < 2:
        return ""
    repeats = bool(np.all(output[1:] == output[:1]))
    if repeats and not np.all(wanted[1:] == wanted[:1]):
        return "; every batch item has the answer of the first one"
    return ""
