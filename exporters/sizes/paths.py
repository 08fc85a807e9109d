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

from anysize.exporters.sizes.filling import FILLING, LAYOUT, core_of, unfilled
from anysize.exporters.sizes.probe import Call, Probe
from anysize.sizes import MAX_SIDE, Size

__all__ = ["NUMBER", "alike_sizes", "telling_sizes"]

# Give a shape, whichever way a tensor is laid out.
_COPIED = frozenset({"clone", "expand"})
# Are rounded by ONNX as by PyTorch, but only where nothing is left over in a trace.
_ROUND_ALIKE = frozenset({"split"})
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
# A map that is halved over and over is odd each time, rounded up in the one, down in the other.
_ODD = ((1, 129), (-1, 127))
_HALVED = 64
# So many sizes are tried for a second one on a path.
_MOST_TRIED = 16
# Of fewer sizes on a path no third one may show what two hide.
_FEWEST = 4
# So many of the largest heights and widths are crossed, where no two sizes tell all.
_CROSSED = 3
# How much longer sides are, where few sizes are found on one path; so many of them are crossed.
_NEAR = (64, 51, 40, 31, 24, 16, -5, -12, -19, -26, -33, -40, -48, -53, -64, -75, -84, -92, -100)
_CROSSED_NEAR = 4
# Whole windows of 7, 8, 12 and 14 cells more, of 32 pixels each.
_WINDOWS = ((224, 448), (448, 224), (256, 512), (512, 256), (384, 768), (768, 384))
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
        operators: What it runs, a slice with its axis, but for what lays tensors out.
        numbers: What these, and new shapes, are given.
        added: How much the maps that are filled grow, by axis.
        calls: All of it.
    """

    operators: tuple[str, ...]
    numbers: tuple[str, ...]
    added: tuple[int, ...]
    calls: Sequence[Call] = ()

    @classmethod
    def of(cls, calls: Sequence[Call]) -> _Path:
        shown = (call.numbers for call in calls if call.operator not in _COPIED)
        fills = (call for call in calls if call.operator in FILLING)
        sides = (zip(call.given, call.made, strict=False) for call in fills)
        return cls(
            tuple(map(_named, (call for call in calls if call.operator not in LAYOUT))),
            tuple(NUMBER.findall(" ".join(shown))),
            tuple(made - given for given, made in itertools.chain.from_iterable(sides)),
            calls,
        )

    @property
    def core(self) -> tuple[str, ...]:
        """The operators that are not for windows, and the same however a tensor is laid out."""
        return tuple(call.operator for call in core_of(self.calls))


def _named(call: Call) -> str:
    axis = NUMBER.search(call.numbers) if call.operator == "slice" else None
    return f"slice {axis[0]}" if axis else call.operator


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
    is_one_path = len({path.operators for path in known.values()}) == 1
    if is_one_path and _are_of_one_size([probe.calls(one) for one in known]):
        return _telling(known, (size, other))
    known |= _paths(probe, _others(size))
    found = _best(probe, known, size)
    if found is None or _count(known, _Path.of(probe.calls(found[0]))) < _FEWEST:
        known |= _paths(probe, _near(probe, size))
        found = _best(probe, known, size)
    return found or (size, other)


def _paths(probe: Probe, sizes: Iterable[Size]) -> dict[Size, _Path]:
    return {size: _Path.of(probe.calls(size)) for size in sizes}


def _are_of_one_size(runs: Sequence[Sequence[Call]]) -> bool:
    """Say whether what fills maps brings them to one size, so that nothing is rounded up."""
    fills = ([call.made for call in calls if call.operator in FILLING] for calls in runs)
    return all(len({*made}) == 1 for made in zip(*fills, strict=True))


def _telling(known: Mapping[Size, _Path], given: tuple[Size, Size]) -> tuple[Size, Size]:
    """Return the given sizes, or two others where those two hide what another one shows.

    The ratio of two maps, one a halved copy of the other, is 2 at all even sizes, and half of an
    even side is rounded neither way.
    """
    if any(size not in known for size in given):
        return given
    if not _hides(known, given) and not _rounds(known, given):
        return given
    return _most_telling(known) or given


def _best(probe: Probe, known: Mapping[Size, _Path], own: Size) -> tuple[Size, Size] | None:
    """Return the two sizes of the longest path that tell the most, if it is right for `own`."""
    core = known[own].core
    paths: dict[tuple[str, ...], dict[Size, _Path]] = {}
    for size, path in known.items():
        if path.core == core:
            paths.setdefault(path.operators, {})[size] = path
    for operators in sorted(paths, key=len, reverse=True):
        alike = paths[operators]
        if len(alike) == 1:
            alike |= _further(probe, known, operators, *alike)
        alike |= _on_path(probe, operators, _far(alike))
        pair = _most_telling(alike)
        if pair is not None and (_hides(alike, pair) or _merges(alike, pair)):
            alike |= _on_path(probe, operators, _crossed(alike))
            pair = _most_telling(alike)
        if pair is not None and not unfilled([*map(probe.calls, pair)], probe.calls(own)):
            return pair
    return None


def _count(known: Mapping[Size, _Path], path: _Path) -> int:
    return sum(one.operators == path.operators for one in known.values())


def _on_path(probe: Probe, operators: tuple[str, ...], sizes: Iterable[Size]) -> dict[Size, _Path]:
    paths = _paths(probe, sizes)
    return {size: path for size, path in paths.items() if path.operators == operators}


def _further(
    probe: Probe, known: Mapping[Size, _Path], operators: tuple[str, ...], only: Size
) -> dict[Size, _Path]:
    """Find a further size on a path that is taken at one alone: a height and a width by itself."""

    def first(sizes: Iterable[Size]) -> Size | None:
        tried = itertools.islice((one for one in sizes if one not in known), _MOST_TRIED)
        return next(
            (one for one in tried if _Path.of(probe.calls(one)).operators == operators), None
        )

    higher = first(Size(one.height, only.width) for one in known)
    found = higher and first(Size(higher.height, one.width) for one in known)
    return {found: _Path.of(probe.calls(found))} if found else {}


def _most_telling(known: Mapping[Size, _Path]) -> tuple[Size, Size] | None:
    """Return the two sizes between which the most numbers differ, and none is an even part."""
    pairs = [pair for pair in itertools.combinations(known, 2) if _differ(*pair)]
    told = {pair: _told(*(known[size] for size in pair)) for pair in pairs}
    most = max((told[pair][:2] for pair in pairs), default=None)
    best = sorted(
        (pair for pair in pairs if told[pair][:2] == most), key=told.__getitem__, reverse=True
    )
    return next((pair for pair in best if not _rounds(known, pair)), best[0] if best else None)


def _hides(known: Mapping[Size, _Path], pair: tuple[Size, Size]) -> bool:
    """Say whether a number is the same at the two sizes, and another one at a third."""
    first, second = (known[size].numbers for size in pair)
    everywhere = zip(*(path.numbers for path in known.values()), strict=False)
    both = zip(first, second, everywhere, strict=False)
    return any(one == other and len({*more}) > 1 for one, other, more in both)


def _merges(known: Mapping[Size, _Path], pair: tuple[Size, Size]) -> bool:
    """Say whether two numbers are the same at each of the two sizes, and two at a third."""
    columns = {*zip(*(path.numbers for path in known.values()), strict=False)}
    both = {*zip(*(known[size].numbers for size in pair), strict=False)}
    return len(both) < len(columns)


def _rounds(known: Mapping[Size, _Path], pair: tuple[Size, Size]) -> bool:
    """Say whether a number is a part of a side at the two sizes, and is rounded at a third."""
    runs = [known[size].calls for size in dict.fromkeys((*pair, *known))]
    for calls in zip(*runs, strict=False) if pair[0] != pair[1] else ():
        if calls[0].numbers == calls[1].numbers or calls[0].operator in _ROUND_ALIKE:
            continue
        numbers = [[*map(float, NUMBER.findall(call.numbers))] for call in calls]
        for parts in zip(*numbers, strict=False):
            for sides in zip(*(call.given for call in calls), strict=False):
                if parts[0] != parts[1] and _is_rounded(sides, parts):
                    return True
    return False


def _is_rounded(sides: Sequence[int], parts: Sequence[float]) -> bool:
    is_part = 0 < parts[0] < sides[0] and sides[0] * parts[1] == sides[1] * parts[0]
    return is_part and any(
        side * parts[0] != sides[0] * part for side, part in zip(sides, parts, strict=True)
    )


def _far(known: Iterable[Size]) -> Iterator[Size]:
    """Yield sizes of more windows in the smallest maps, too, which are filled up as much."""
    least = min(known, key=lambda size: size.area)
    yield from (_longer(least, *more) for more in _WINDOWS)


def _crossed(known: Iterable[Size]) -> Iterator[Size]:
    """Yield further sizes, of the largest heights and widths: where these fit, both often do."""
    heights, widths = ({size.height for size in known}, {size.width for size in known})
    largest = (sorted(sides, reverse=True)[:_CROSSED] for sides in (heights, widths))
    yield from (
        size for size in itertools.starmap(Size, itertools.product(*largest)) if size not in known
    )


def _told(first: _Path, second: _Path) -> tuple[int, int, int]:
    """Count in how many ways numbers differ, for two of one way are not told apart, and how many.

    What depends on the size may be the same at both: two maps are rounded up to as many windows.
    Of as many the better ones are those where more is missing, which tells steps from smaller ones.
    """
    pairs = [pair for pair in zip(first.numbers, second.numbers, strict=False) if len({*pair}) > 1]
    return len({*pairs}), len(pairs), sum(map(max, first.added, second.added))


def _others(size: Size) -> Iterator[Size]:
    for height, width in _MORE:
        sides = ((size.height, height), (size.width, width))
        yield Size(*(min(max(side + by, side // 2 | 1), MAX_SIDE) for side, by in sides))


def _near(probe: Probe, size: Size) -> Iterator[Size]:
    """Yield sizes around one, as a module does otherwise further above, or below.

    Of sides that are longer, or shorter, by as much those are crossed at which most is filled up.
    """
    core = _Path.of(probe.calls(size)).core
    more = [one for one in _NEAR if min(size.height, size.width) + one > 0]
    paths = {one: _Path.of(probe.calls(_longer(size, one, one))) for one in more}
    counts = {one: len(path.operators) for one, path in paths.items() if path.core == core}
    longest = [one for one, count in counts.items() if count == max(counts.values())]
    apart = longest[:: -(-len(longest) // _CROSSED_NEAR) or 1]
    yield from (_longer(size, *sides) for sides in itertools.permutations(apart, 2))


def _longer(size: Size, height: int, width: int) -> Size:
    return Size(min(size.height + height, MAX_SIDE), min(size.width + width, MAX_SIDE))


def _differ(one: Size, other: Size) -> bool:
    return one.height != other.height and one.width != other.width
