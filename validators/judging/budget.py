"""The error budget: how far a runtime may be from the float64 arbiter, and the numbers behind it.

With s = max |y64| over an output, the reference's own error is e_ref = max |y32 − y64| / s. It is
one draw of a random variable: in which direction each layer's rounding happened to fall. So where a
runtime is further away than eight times that, the reference draws again (`spread`): it runs up to
sixteen times in float32 with the result of each layer moved by up to one float32 step either way
(Monte Carlo arithmetic: Parker, UCLA CSD-970002, 1997; Verificarlo: Denis et al., ARITH 2016;
CADNA: Jézéquel and Chesneaux, 2008), and e_spread is the root mean square of those errors. A
runtime passes when

    max |y − y64| / s ≤ factor · max(e_ref, e_spread, floor):

eight times what float32 answers of this network lose on the average, or eight times four float32
steps where they lose less. As the largest of the three counts, drawing can but enlarge a budget,
and who passes without it has passed. Each fourth draw sums in order, as a plain loop or a SIMD
register does: of equal numbers that loses up to a third of a step for each of them, always the
same, which no rounding at random comes near (`references.eager.in_order`). A draw may also turn a
decision over, such as the cell that a coordinate is rounded to. That is no rounding error: e_spread
counts up to 64 · max(e_ref, floor).

The probability of a false red. The error of one output number is a sum of many small independent
roundings, near enough normal with a deviation σ. A runtime that rounds as the draws do fails where
|N(0, σ)| is more than eight times the root mean square of sixteen such draws: Student's t with 16
degrees of freedom is beyond 8 with probability 6e-7. That is the worst case: where an output has
many numbers, the largest of their errors varies less than one of them (Borell's inequality), and
each draw has the reference's own rounding beneath the one that is put on top, which makes it larger
by √2 or more.

Outputs that saturate (Sigmoid, Softmax) are rounded as parts of 1: runtimes compute a probability
of 3e-4 as ½ less 0.4997. Their floor is one of 1, too: floor / s, not multiplied by the factor.

Some outputs hold fill values among their scores, such as the −1e9 or the lowest float32 of a mask.
They are written, not computed: the same in float32 and in float64, but for one rounding, at least
1e4, and more than a thousand times as large as all the rest. Each of them is its own scale; s is
the largest of the rest.

A file in half precision is judged by the profile `float16` on every runtime. Its e_ref is that of
the module with float16 weights whose layers read float16 values (`references.rounded`): one
rounding for each layer with weights. A runtime may round after every operator, of which up to four
(convolution, normalisation, addition, activation) lie between two such layers: factor 4. The floor
is what rounding the answer alone costs, half a step of float16.

A quantised file rounds to whole steps, and a number in the middle of two goes either way. So its
draws move all numbers near the middle by a coin (`references.graph.quantised`), and what they move
is worth steps, whatever e_ref is: e_spread counts whole. Half of the numbers in doubt go the other
way in a draw, far more than in any one runtime. Where there is a single one, no draw of sixteen
moves it with probability 2e-5; three times the root mean square covers what several do together.
Where no number is in doubt the budget is that of the strict profile. Whether the file is its
original, but for what its roundings cost, is judged by the same profile, from draws that lose as
much as roundings do (`run.quantisation`).

TF32 rounds both factors of a product to ten bits: two errors of up to half a step, 1/√3 of that on
the average, in each layer. Over 48 layers they add up, as a random walk, to 2·√48/√3 = 8 half
steps: factor 8, floor half a step. TensorRT in float32 may pick Winograd's algorithm with tiles of
4×4, whose transformations magnify rounding some ten times (Lavin and Gray, arXiv 1509.09308): the
strict profile with a floor sixteen times as high.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anysize.errors import UsageError

__all__ = [
    "ALL_OUTPUTS",
    "EPS16",
    "EPS32",
    "MOST_SPREAD",
    "PROFILES",
    "QUANTISED",
    "VACUITY_RATIO",
    "Deviation",
    "PerOutput",
    "Profile",
    "Tolerance",
    "Tolerances",
    "exact_deviation",
    "fill_values",
    "float_deviation",
    "float_error",
]

EPS32 = float(np.finfo(np.float32).eps)
EPS16 = float(np.finfo(np.float16).eps)
EPS_TF32 = 2.0**-10  # ten bits behind the point

_MAX32 = float(np.finfo(np.float32).max)
# Of strict answers whose reference loses nothing.
_STRICT_BUDGET = 8 * 4 * EPS32
# The profile of quantised files.
QUANTISED = "quantised"
# How large a value is that was written, and how far it stands above all the rest.
_LEAST_FILL, _FILL_RATIO = 1e4, 1024.0

# A single number's own error is less than a 64th of what such errors are on the average once in a
# hundred times, and hardly ever where the floor is less than that, too.
MOST_SPREAD = 64.0
# A graph that ignores its input can do no better than the midpoint of two answers, which is off by
# half of their distance v; it passes where v ≤ 2 · budget. For the comparison to notice an error of
# one eighth of what the input contributes, v must be eight times that: 16 budgets.
VACUITY_RATIO = 16.0

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Profile:
    """How much of an error a kind of arithmetic is allowed.

    Attributes:
        name: The word in the report.
        factor: Multiple of the reference's own error.
        floor: Smallest own error that is assumed, relative to the largest output.
        text: What it is for.
        has_spread: Roundings of the reference are drawn; a runtime in half precision has others.
        most_spread: What such draws count at most, as a multiple of the reference's own error.
        vacuity_ratio: By how many budgets the reference has to vary for agreement to tell anything.
    """

    name: str
    factor: float
    floor: float
    text: str
    has_spread: bool = True
    most_spread: float = MOST_SPREAD
    vacuity_ratio: float = VACUITY_RATIO

    def budget(self, reference_error: float, *, part_of_one: float = 0.0) -> float:
        """Return the allowed error, relative to the largest output.

        Args:
            reference_error: What a right answer loses, relative to the largest output.
            part_of_one: The largest output, where the outputs saturate at 1; else 0.
        """
        least = self.floor / part_of_one if part_of_one > 0.0 else 0.0
        return max(self.factor * max(reference_error, self.floor), least)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The user's own |y − ref| ≤ atol + rtol · |ref|, against the float32 reference."""

    atol: float
    rtol: float


# A number for all outputs, or numbers by output; `ALL_OUTPUTS` is for those that are not named.
PerOutput = float | Mapping[str, float]
ALL_OUTPUTS = ""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """Tolerances of the user's own, by output; an output that has none is left to its budget.

    Attributes:
        atol: By output, `ALL_OUTPUTS` for those that are not named.
        rtol: As well. Of an output with only one of the two, the other one is 0.
    """

    atol: Mapping[str, float]
    rtol: Mapping[str, float]

    @classmethod
    def of(
        cls, atol: PerOutput | None, rtol: PerOutput | None, outputs: Mapping[str, bool]
    ) -> Tolerances:
        """Check what the user gave.

        Args:
            atol: A number, or numbers by output.
            rtol: As well.
            outputs: Whether an output of the file, by its name, is a floating-point one.

        Raises:
            UsageError: A number is negative or not finite, an output does not exist, or is
                compared exactly.
        """
        given = []
        for option, value in (("atol", atol), ("rtol", rtol)):
            numbers = dict(value) if isinstance(value, Mapping) else {ALL_OUTPUTS: value}
            for output, number in numbers.items():
                if number is None:
                    continue
                if output != ALL_OUTPUTS and not outputs.get(output):
                    raise UsageError(
                        f"--{option} {output}:{number:g}: output {output!r} is compared exactly"
                        if output in outputs
                        else f"--{option} {output}:{number:g}: the file has no such output; it has "
                        f"{', '.join(outputs)}"
                    )
                if not (math.isfinite(number) and number >= 0.0):
                    raise UsageError(f"--{option} {number}: expected a number from 0 on")
            given.append({name: float(n) for name, n in numbers.items() if n is not None})
        return cls(*given)

    def for_output(self, name: str) -> Tolerance | None:
        """Return what an output is judged by; None for its error budget."""
        found = [numbers.get(name, numbers.get(ALL_OUTPUTS)) for numbers in (self.atol, self.rtol)]
        if found == [None, None]:
            return None
        return Tolerance(found[0] or 0.0, found[1] or 0.0)

    def __str__(self) -> str:
        """As words `atol=A rtol=R`, and `NAME:atol=A NAME:rtol=R`, quoted as a shell wants them."""
        words = []
        for name in dict.fromkeys((*self.atol, *self.rtol)):
            tolerance, prefix = self.for_output(name), f"{name}:" if name else ""
            assert tolerance is not None
            words += [f"{prefix}atol={_exact(tolerance.atol)}"]
            words += [f"{prefix}rtol={_exact(tolerance.rtol)}"]
        return shlex.join(words)


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("strict", 8.0, 4 * EPS32, "float32 arithmetic, IEEE 754 throughout"),
        Profile(
            "float16",
            4.0,
            EPS16 / 2,
            "float16 weights and values between layers",
            has_spread=False,
        ),
        Profile("tf32", 8.0, EPS_TF32 / 2, "factors of products rounded to TF32, float32 sums"),
        Profile(
            QUANTISED,
            3.0,
            _STRICT_BUDGET / 3.0,
            "roundings to whole steps, which may fall either way",
            most_spread=math.inf,
            vacuity_ratio=2.0,
        ),
        Profile("tensorrt", 8.0, 64 * EPS32, "float32, with convolution by Winograd's algorithm"),
    )
}


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far one output is from what is expected.

    Attributes:
        error: max |y − y64| / s; with a `Tolerance`, |y − ref| of the worst element.
        budget: What `error` may be at most; with a `Tolerance`, atol + rtol · |ref| of the worst
            element.
        ratio: The largest error as a multiple of its budget; the output passes when it is ≤ 1.
        reference_error: The larger one of e_ref (0 without an arbiter) and, where it was measured,
            e_spread.
        scale: s, the largest absolute value of the arbiter, fill values left out.
        needed_atol: The smallest atol (with the `Tolerance`'s rtol, else rtol 0) that would pass.
        index: Place of the worst element; () for a scalar or an empty output.
        got: Value that the runtime answered there.
        expected: What it should be.
        non_finite: The worst element is a NaN or Inf on one side only.
        is_exact: Whole numbers or booleans, which have no budget.
    """

    error: float
    budget: float
    ratio: float
    reference_error: float
    scale: float
    needed_atol: float
    index: tuple[int, ...]
    got: float
    expected: float
    non_finite: bool = False
    is_exact: bool = False

    @property
    def is_within(self) -> bool:
        """Whether the output is within its budget."""
        return self.ratio <= 1.0


def float_deviation(
    got: Array,
    float32: Array,
    float64: Array | None,
    *,
    profile: Profile,
    tolerance: Tolerance | None = None,
    rounded: Array | None = None,
    spread: float = 0.0,
    saturates: bool = False,
) -> Deviation:
    """Measure a floating-point output against the reference; all arrays have the same shape.

    A NaN or an Inf is right only where the float32 reference has the same one; elements where it
    has are left out of the arithmetic. Without `float64`, the float32 reference stands in for the
    arbiter, and its own error counts as 0.

    Args:
        got: The runtime's output.
        float32: The reference's output in float32.
        float64: The arbiter's output, or None.
        profile: The error profile of the runtime.
        tolerance: Replaces the profile where it is given.
        rounded: What the reference answers in the runtime's coarser arithmetic; its error counts
            as the reference's own where it is the larger one.
        spread: How far float32 answers of the reference spread, where that has been measured.
        saturates: The output is a probability: rounded as a part of 1.
    """
    if got.size == 0:
        return _EQUAL
    answer = got.astype(np.float64)
    reference = float32.astype(np.float64)
    truth = _Truth.of(float32, None if tolerance else float64)
    own = max(truth.error(reference), 0.0 if rounded is None else truth.error(rounded))
    own = max(own, min(spread, profile.most_spread * max(own, profile.floor)))
    allowed_error = profile.budget(own, part_of_one=truth.scale if saturates else 0.0)
    with np.errstate(all="ignore"):  # Inf − Inf: such elements are in `alien` or left out
        distance = np.where(truth.compared, np.abs(answer - truth.values), 0.0)
        to_reference = np.abs(answer - reference)
        slack = tolerance.rtol * np.abs(reference) if tolerance else np.zeros_like(reference)
    alien = np.where(truth.compared, ~np.isfinite(answer), ~_same(answer, reference))
    needed_atol = _largest(to_reference - slack, truth.compared)
    if alien.any():
        place = int(np.argmax(alien))
        error, budget, ratio, needed_atol = np.inf, allowed_error, np.inf, np.inf
    elif tolerance:
        allowed = np.where(truth.compared, tolerance.atol + slack, np.inf)
        excess = _quotient(distance, allowed)
        place = int(np.argmax(excess))
        error, budget = float(distance.flat[place]), float(allowed.flat[place])
        ratio = float(excess.flat[place])
    else:
        errors = _quotient(distance, truth.scales)
        place = int(np.argmax(errors))
        error, budget = float(errors.flat[place]), allowed_error
        ratio = error / budget
    return Deviation(
        error=error,
        budget=budget,
        ratio=ratio,
        reference_error=own,
        scale=truth.scale,
        needed_atol=needed_atol,
        index=_index(place, answer.shape),
        got=float(answer.flat[place]),
        expected=float(truth.values.flat[place]),
        non_finite=bool(alien.any()),
    )


def float_error(got: Array, float32: Array, float64: Array | None) -> float:
    """Return how far a floating-point answer of the reference itself is from the arbiter's.

    Args:
        got: An answer in float32.
        float32: The usual one; where it is not finite, nothing is compared.
        float64: The arbiter's, or None to let `float32` stand in for it.

    Returns:
        The largest error, relative to the largest output; 0 where that is 0.
    """
    return _Truth.of(float32, float64).error(got)


@dataclass(frozen=True, slots=True)
class _Truth:
    """What an output is measured against, and by which scales."""

    values: NDArray[np.float64]
    compared: NDArray[np.bool_]
    scale: float
    scales: NDArray[np.float64]

    @classmethod
    def of(cls, float32: Array, float64: Array | None) -> _Truth:
        reference = float32.astype(np.float64)
        values = reference if float64 is None else _in_range(float64, float32.dtype)
        compared = np.isfinite(reference) & np.isfinite(values)
        fills = fill_values(float32, float64)
        scale = _largest(np.abs(values), compared & ~fills)
        return cls(values, compared, scale, np.where(fills, np.abs(values), scale))

    def error(self, answer: Array) -> float:
        if self.scale <= 0.0 or answer.size != self.values.size:
            return 0.0
        numbers = answer.astype(np.float64).reshape(self.values.shape)  # (n, c) and (n, c, 1, 1)
        with np.errstate(all="ignore"):
            errors = np.abs(numbers - self.values) / self.scales
        return _largest(errors, self.compared & np.isfinite(errors))


def fill_values(float32: Array, float64: Array | None) -> NDArray[np.bool_]:
    """Find the elements that a network writes into its output, such as the −1e9 of a mask."""
    reference = float32.astype(np.float64)
    truth = reference if float64 is None else _in_range(float64, float32.dtype)
    with np.errstate(all="ignore"):
        is_finite = np.isfinite(reference) & np.isfinite(truth)
        is_written = is_finite & (truth.astype(float32.dtype) == float32)
        is_large = is_written & (np.abs(truth) >= _LEAST_FILL)
        rest = _largest(np.abs(truth), is_finite & ~is_large)
        return np.asarray(is_large & (np.abs(truth) > _FILL_RATIO * rest) & (rest > 0.0))


def _in_range(float64: Array, dtype: Any) -> NDArray[np.float64]:
    """Return the arbiter's answer; the lowest float64 of a mask becomes the lowest float32."""
    truth = float64.astype(np.float64)
    if dtype != np.float32:
        return truth
    return np.where(np.isfinite(truth), np.clip(truth, -_MAX32, _MAX32), truth)


def exact_deviation(got: Array, expected: Array) -> Deviation:
    """Compare an integer or boolean output, which has no budget: equal or wrong."""
    differs = np.asarray(got != expected)
    if not differs.any():
        return replace(_EQUAL, is_exact=True)
    answer, truth = got.astype(np.float64), expected.astype(np.float64)
    distance = np.where(differs, np.abs(answer - truth), -1.0)
    place = int(np.argmax(distance))
    return Deviation(
        error=float(distance.flat[place]),
        budget=0.0,
        ratio=np.inf,
        reference_error=0.0,
        scale=float(np.max(np.abs(truth))),
        needed_atol=float(distance.flat[place]),
        index=_index(place, differs.shape),
        got=float(answer.flat[place]),
        expected=float(truth.flat[place]),
        is_exact=True,
    )


_EQUAL = Deviation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (), 0.0, 0.0)


def _same(answer: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((answer == reference) | (np.isnan(answer) & np.isnan(reference)))


def _largest(values: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    return float(np.max(values, where=where, initial=0.0))


def _exact(number: float) -> str:
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def _quotient(distance: Any, allowed: Any) -> NDArray[np.float64]:
    """Divide; no distance at all is 0, and any distance where none is allowed is infinite."""
    with np.errstate(all="ignore"):
        return np.where(np.asarray(distance) == 0.0, 0.0, np.divide(distance, allowed))


def _index(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.unravel_index(place, shape))
