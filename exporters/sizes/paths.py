"""Two sizes at which a module runs the same operators, though it fills maps up where it has to.

A module that pads or resizes a map to a multiple, for its windows, runs more operators where it
does, and they change nothing where it does not: of paths that differ in no other operator the
longest is the one for all.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from anysize.exporters.sizes.probe import Call, Probe
from anysize.sizes import MAX_SIDE, Size

__all__ = ["NUMBER", "alike_sizes", "core_of", "telling_sizes"]

# Lay a tensor out, as its strides ask for.
_LAYOUT = frozenset({"_unsafe_view", "clone", "expand", "view"})
# Give a shape, whichever way a tensor is laid out.
_COPIED = frozenset({"clone", "expand"})
# May fill a map up to a multiple, or not; what else is done for windows, and is undone again.
_FILLING = frozenset({"constant_pad_nd", "upsample_bilinear2d"})
_WINDOWS = frozenset({"alias", "permute", "slice", "t", "transpose"})
_PRODUCT, _SUM = Call("mm", ""), Call("add", "")
_PRODUCTS = {"addmm": (_PRODUCT, _SUM), "bmm": (_PRODUCT,), "baddbmm": (_PRODUCT, _SUM)}
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
# A map that is halved over and over is odd each time, rounded up in the one, down in the other.
_ODD = ((1, 129), (-1, 127))
_HALVED = 64
# So many of the largest heights and widths are crossed, where no two sizes tell all.
_CROSSED = 3
# How much larger the images are among which two are sought.
_MORE = (
    (-53, 75), (101, -29), (7, 61), (64, 128), (128, 64), (37, 151), (181, 53), (-29, 197),
    (149, -61), (109, 91), (217, 173), (128, 352), (-29, -53), (-7, -19), (13, 5),
    (11, 23), (23, 11),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Path:
    """What a module does at a size.

    Attributes:
        operators: What it runs, but for what lays tensors out.
        numbers: What these, and new shapes, are given.
    """

    operators: tuple[str, ...]
    numbers: tuple[str, ...]

    @classmethod
    def of(cls, calls: Sequence[Call]) -> _Path:
        shown = (call.numbers for call in calls if call.operator not in _COPIED)
        return cls(
            tuple(call.operator for call in calls if call.operator not in _LAYOUT),
            tuple(NUMBER.findall(" ".join(shown))),
        )

    @property
    def core(self) -> tuple[str, ...]:
        """The operators that are not for windows."""
        return tuple(one for one in self.operators if one not in _FILLING | _WINDOWS)


def core_of(calls: Sequence[Call]) -> list[Call]:
    """Return what does not fill maps up, cut windows, or lay tensors out.

    A product is written as PyTorch multiplies tensors of any layout; one cell has every layout.
    """
    plain = itertools.chain.from_iterable(_PRODUCTS.get(call.operator, (call,)) for call in calls)
    return [call for call in plain if call.operator not in _FILLING | _WINDOWS | _LAYOUT]


def telling_sizes(size: Size) -> tuple[Size, ...]:
    """Return sizes at which numbers show that are the same at most sizes."""
    least = tuple(-(-side // _HALVED) * _HALVED for side in (size.height, size.width))
    sides = ([min(a + more, MAX_SIDE) for a, more in zip(least, odd, strict=True)] for odd in _ODD)
    return tuple(Size(*each) for each in sides)


def alike_sizes(probe: Probe, size: Size, other: Size) -> tuple[Size, Size]:
    """Find two sizes, different both ways, at which the module runs the same operators.

    Of those on the longest path two are taken between which the most numbers differ.

    Returns:
        The two that are given where they are such sizes, or where none are found.
    """
    probe.forget(size)  # what a module computes once it has in its first run
    given = (size, other, *telling_sizes(size))
    known = {one: path for one in given if (path := _Path.of(probe.calls(one))).operators}
    if size not in known:
        return size, other
    operators = known[size].operators
    if _FILLING.isdisjoint(operators) and {p.operators for p in known.values()} == {operators}:
        return _telling(known, (size, other))
    known |= {one: _Path.of(probe.calls(one)) for one in _others(size)}
    return _best(probe, known, known[size].core) or (size, other)


def _telling(known: Mapping[Size, _Path], given: tuple[Size, Size]) -> tuple[Size, Size]:
    """Return the given sizes, or two others where those two hide what another one shows.

    The ratio of two maps, one a halved copy of the other, is 2 at all even sizes.
    """
    if any(size not in known for size in given) or not _hides(known, given):
        return given
    return _most_telling(known) or given


def _best(
    probe: Probe, known: Mapping[Size, _Path], core: tuple[str, ...]
) -> tuple[Size, Size] | None:
    """Return the two sizes of the longest path that tell the most."""
    paths: dict[tuple[str, ...], dict[Size, _Path]] = {}
    for size, path in known.items():
        if path.core == core:
            paths.setdefault(path.operators, {})[size] = path
    for operators in sorted(paths, key=len, reverse=True):
        alike = paths[operators]
        pair = _most_telling(alike)
        if pair is not None and _hides(alike, pair):
            crossed = ((one, _Path.of(probe.calls(one))) for one in _crossed(alike))
            alike |= {one: path for one, path in crossed if path.operators == operators}
            pair = _most_telling(alike)
        if pair is not None:
            return pair
    return None


def _most_telling(known: Mapping[Size, _Path]) -> tuple[Size, Size] | None:
    pairs = [pair for pair in itertools.combinations(known, 2) if _differ(*pair)]
    told = ((_told(*(known[size].numbers for size in pair)), pair) for pair in pairs)
    return max(told, key=lambda one: one[0], default=(None, None))[1]


def _hides(known: Mapping[Size, _Path], pair: tuple[Size, Size]) -> bool:
    """Say whether a number is the same at the two sizes, and another one at a third."""
    first, second = (known[size].numbers for size in pair)
    everywhere = zip(*(path.numbers for path in known.values()), strict=False)
    both = zip(first, second, everywhere, strict=False)
    return any(one == other and len({*more}) > 1 for one, other, more in both)


def _crossed(known: Iterable[Size]) -> Iterator[Size]:
    """Yield further sizes, of the largest heights and widths: where these fit, both often do."""
    heights, widths = ({size.height for size in known}, {size.width for size in known})
    largest = (sorted(sides, reverse=True)[:_CROSSED] for sides in (heights, widths))
    yield from (
        size for size in itertools.starmap(Size, itertools.product(*largest)) if size not in known
    )


def _told(first: Sequence[str], second: Sequence[str]) -> tuple[int, int]:
    """Count the numbers that differ, and in how many ways: two of one way are not told apart.

    What depends on the size may be the same at both: two maps are rounded up to as many windows.
    """
    pairs = [pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]]
    return len(pairs), len({*pairs})


def _others(size: Size) -> Iterator[Size]:
    for height, width in _MORE:
        sides = ((size.height, height), (size.width, width))
        yield Size(*(max(side + by, side // 2 | 1) for side, by in sides))


def _differ(one: Size, other: Size) -> bool:
    return one.height != other.height and one.width != other.width
