"""Whether what a module leaves out at a size would have changed nothing there.

A map that is filled up to a multiple, for its windows, or resized to one size, is often left alone
where it has that size already. A graph that fills it always is right for both. One that a module
enlarges where it is small, and otherwise leaves as it is, has two paths; so has one of which a
module cuts a row where it has an odd number.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from anysize.exporters.sizes.probe import Call
from anysize.exporters.tracing import step_of

__all__ = ["FILLING", "LAYOUT", "core_of", "unfilled"]

FILLING = frozenset(
    {"constant_pad_nd", "upsample_bicubic2d", "upsample_bilinear2d", "upsample_nearest2d"}
)
# Cut windows and put them together; lay a tensor out, as its strides ask for.
_WINDOWS = frozenset({"permute", "slice", "t", "transpose"})
LAYOUT = frozenset({"_unsafe_view", "alias", "clone", "expand", "view"})

_PRODUCT, _SUM = Call("mm", ""), Call("add", "")
_PRODUCTS = {"addmm": (_PRODUCT, _SUM), "bmm": (_PRODUCT,), "baddbmm": (_PRODUCT, _SUM)}

# Axis, start and end of a slice; the step may be left out.
_SLICE_NUMBERS = 3
_WHOLE = re.compile(r"-?\d+")

_Shape = tuple[int, ...]


@dataclass(slots=True)
class _Part:
    """What is between two core calls.

    Attributes:
        shapes: Those that there are.
        fills: What fills a map.
        cuts: What leaves a part of a tensor.
    """

    shapes: list[_Shape] = field(default_factory=list)
    fills: list[Call] = field(default_factory=list)
    cuts: list[Call] = field(default_factory=list)


def _is_core(call: Call) -> bool:
    """Say whether a call is neither for windows nor for how a tensor is laid out."""
    return call.operator not in FILLING | _WINDOWS | LAYOUT


def core_of(calls: Sequence[Call]) -> list[Call]:
    """Return what does not fill maps up, cut windows, or lay tensors out.

    A product is written as PyTorch multiplies tensors of any layout; one cell has every layout.
    """
    plain = itertools.chain.from_iterable(_PRODUCTS.get(call.operator, (call,)) for call in calls)
    return [call for call in plain if _is_core(call)]


def unfilled(traced: Sequence[Sequence[Call]], calls: Sequence[Call]) -> str:
    """Find what fills or cuts a map in one run and not in others, and would have changed it there.

    Args:
        traced: Runs at several sizes, with the same operators.
        calls: A run at another one, with the same operators but for windows.

    Returns:
        The operator; "" where there is none.
    """
    parts = [list(_parts(run)) for run in traced]
    for place, ours in enumerate(_parts(calls)):
        theirs = [part[place] for part in parts]
        other = _other_fill(theirs, ours) or _other_cut(theirs, ours)
        if other is not None:
            return other.operator
    return ""


def _other_fill(theirs: Sequence[_Part], ours: _Part) -> Call | None:
    counts = {len(part.fills) for part in theirs}
    if len(counts) > 1 or len(ours.fills) in counts:
        return None
    if len(ours.fills) > len(theirs[0].fills):
        return next((call for call in ours.fills if call.given != call.made), None)
    fills = zip(*(part.fills for part in theirs), strict=True)
    return next((fill[0] for fill in fills if not _would_keep(fill, ours.shapes)), None)


def _other_cut(theirs: Sequence[_Part], ours: _Part) -> Call | None:
    """Find what is cut at the one size alone, or at all others, by numbers that are no size's."""
    counts = {len(part.cuts) for part in theirs}
    if len(counts) > 1 or len(ours.cuts) in counts:
        return None
    if len(ours.cuts) > len(theirs[0].cuts):
        return ours.cuts[-1]
    alike = zip(*(part.cuts for part in theirs), strict=True)
    cuts = (one for one, *others in alike if all(one.numbers == call.numbers for call in others))
    own = {call.numbers for call in ours.cuts}
    return next((c for c in cuts if c.numbers not in own and not _keeps(c, ours.shapes)), None)


def _keeps(cut: Call, shapes: Iterable[_Shape]) -> bool:
    """Say whether one of the shapes, if it is of the kind that is cut, is left as it is."""
    numbers = [*map(int, _WHOLE.findall(cut.numbers))]
    alike = [shape for shape in shapes if len(shape) == len(cut.given)]
    if not alike or len(numbers) < _SLICE_NUMBERS:
        return True
    axis, start, end, *step = numbers
    kept = slice(start, end, *step)
    return any(len(range(*kept.indices(shape[axis]))) == shape[axis] for shape in alike)


def _parts(calls: Iterable[Call]) -> Iterator[_Part]:
    """Yield what is between two core calls."""
    part = _Part()
    for call in calls:
        part.shapes.append(call.given)
        if _is_core(call):
            for _ in _PRODUCTS.get(call.operator, (call,)):
                yield part
                part = _Part()
        elif call.operator in FILLING:
            part.fills.append(call)
        elif call.operator == "slice" and call.given != call.made:
            part.cuts.append(call)
        part.shapes.append(call.made)
    yield part


def _would_keep(fills: Sequence[Call], shapes: Iterable[_Shape]) -> bool:
    """Say whether one of the shapes, if it is of the kind that is filled, is full already."""
    axes = list(zip(*(call.given for call in fills), strict=False))
    made = list(zip(*(call.made for call in fills), strict=False))
    kept = {
        axis: sides[0]
        for axis, sides in enumerate(axes)
        if sides == made[axis] and len({*sides}) == 1
    }
    alike = [
        shape
        for shape in shapes
        if len(shape) == len(axes) and all(shape[axis] == side for axis, side in kept.items())
    ]
    return not alike or any(all(map(_is_full, axes, made, shape)) for shape in alike)


def _is_full(sides: Sequence[int], made: Sequence[int], side: int) -> bool:
    """Say whether a side is filled, or was and is brought back."""
    return _fills(sides, made, side) or _fills(made, sides, side)


def _fills(sides: Sequence[int], made: Sequence[int], side: int) -> bool:
    """Say whether a side is the one that all are brought to, or a multiple that they fill up."""
    if len({*made}) == 1 < len({*sides}):
        return side == made[0]
    missing = [filled - own for own, filled in zip(sides, made, strict=True)]
    return step_of([*sides, side], [*missing, 0]) > 0
