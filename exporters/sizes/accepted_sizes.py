"""Ask the module itself whether it takes the sizes that its graph was computed to take.

The arithmetic of shapes finds the sizes at which every window fits, maps that meet are alike and
every map has a cell. A module can be stricter: position embeddings for so many cells, an addition
in place that must not broadcast, windows that have to fill the map, a check of its own. A graph
that answers there answers what PyTorch refuses. And a module can take another path than the one
that its graph has, so that the graph answers otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from anysize.bisection import highest, lowest
from anysize.errors import DeclinedError, ExportError
from anysize.exporters.sizes.one_path import OnePath
from anysize.exporters.sizes.paths import telling_sizes
from anysize.exporters.sizes.probe import STEPS, Probe
from anysize.sizes import MAX_SIDE, Size, SizeRange, Steps
from anysize.surgery.shapes import Sides, sides_taken

__all__ = ["AcceptedSizes", "accepted_sizes"]

# Sides that are asked one by one at least, where the module takes some and refuses others.
_FEWEST_SIDES = 64
_SIDES = ("height", "width")


@dataclass(frozen=True, slots=True)
class AcceptedSizes:
    """The sizes that a module takes.

    Attributes:
        sizes: A range of heights by a range of widths.
        others: Why there are larger or smaller ones, too: the first that it does not take beside
            those, and its words; "" where there are none.
    """

    sizes: SizeRange
    others: str = ""


def accepted_sizes(
    probe: Probe,
    path: OnePath,
    computed: SizeRange,
    *,
    name: str,
    size: Size,
    larger: Size,
    bounds: SizeRange,
) -> AcceptedSizes:
    """Narrow the sizes that a graph takes to those that the module takes, too, on its path.

    Args:
        probe: The module.
        path: Says where it takes the path of the graph.
        computed: What the graph takes.
        name: How messages call the module.
        size: The training size.
        larger: A size beyond it, both ways; a module that takes it, or the next one that the graph
            takes, has no largest.
        bounds: What the file shall take, where the module takes what is no range of heights by one
            of widths.

    Raises:
        ExportError: The sizes that the module takes are no set of heights by one of widths.
    """
    asked = telling_sizes(size) if probe.is_cheap else ()
    top = computed.maximum or Size(MAX_SIDE, MAX_SIDE)
    beyond = computed.near(larger.height, larger.width)

    def takes(one: Size | None) -> bool:
        return one is None or (probe.accepts(one) and path(one))

    if computed.maximum is None and beyond is not None and probe.accepts(beyond, 3):
        between = (computed.near(one.height, one.width) for one in asked)
        if all(map(takes, (beyond, computed.minimum, *between))):
            return AcceptedSizes(computed)
    else:
        beyond = Size(min(larger.height, top.height), min(larger.width, top.width))

    def takes_height(side: int) -> bool:
        return side in computed.heights and takes(Size(side, size.width))

    def takes_width(side: int) -> bool:
        return side in computed.widths and takes(Size(size.height, side))

    low = computed.minimum
    heights, widths = (
        [min(getattr(one, side), getattr(top, side)) for one in (beyond, *asked)] for side in _SIDES
    )
    try:
        height = _taken(takes_height, size.height, computed.heights, low.height, heights)
        width = _taken(takes_width, size.width, computed.widths, low.width, widths)
    except DeclinedError as error:
        raise ExportError(f"{name}: {str(error).partition('; ')[0]}") from error
    height = replace(height, most=min(height.most, top.height))
    width = replace(width, most=min(width.most, top.width))
    is_bounded = min(height.most, width.most) < MAX_SIDE
    found = SizeRange(
        Size(height.least, width.least),
        Size(height.most, width.most) if is_bounded else None,
        height.steps,
        width.steps,
    )
    beyond = Size(max(beyond.height, size.height), max(beyond.width, size.width))

    def refused(among: SizeRange) -> Size | None:
        return next((one for one in _corners(among, beyond) if not takes(one)), None)

    corner = refused(found)
    if corner is None:
        return AcceptedSizes(found)
    words = f"takes images of {size} but not of {corner}: {probe.refusal(corner) or path.other}"
    within = _within(found, bounds, size)
    if refused(within):
        within = _squared(within, takes, size, beyond)
    if refused(within):
        raise ExportError(
            f"{name}: {words}; the sizes that it takes are no range of heights by a range of widths"
        )
    return AcceptedSizes(within, words)


def _corners(sizes: SizeRange, beyond: Size) -> list[Size]:
    """Return the least and the largest sizes, the latter no larger than `beyond`."""
    low, top = sizes.minimum, sizes.maximum or beyond
    heights = low.height, sizes.heights.from_(min(top.height, beyond.height), down=True)
    widths = low.width, sizes.widths.from_(min(top.width, beyond.width), down=True)
    return sorted({Size(height, width) for height in heights for width in widths})


def _within(sizes: SizeRange, bounds: SizeRange, size: Size) -> SizeRange:
    """Narrow sizes to those that are asked for, unless the training size is none of them."""
    return sizes & bounds if size in bounds else sizes


def _squared(
    sizes: SizeRange, takes: Callable[[Size | None], bool], size: Size, beyond: Size
) -> SizeRange:
    """Bring the largest sides, and the least ones, so near to each other that both at once fit.

    A table has so many positions, whichever way they lie, and one cell may be no map.
    """
    low, top = sizes.minimum, sizes.maximum or beyond

    def least(side: int) -> Size:
        sides = ((low.height, size.height), (low.width, size.width))
        height, width = (min(max(side, fewest), own) for fewest, own in sides)
        return Size(sizes.heights.from_(height), sizes.widths.from_(width))

    def largest(side: int) -> Size:
        sides = ((top.height, size.height), (top.width, size.width))
        height, width = (max(min(side, most), own) for most, own in sides)
        return Size(sizes.heights.from_(height, down=True), sizes.widths.from_(width, down=True))

    if not takes(low):
        low = least(lowest(lambda side: takes(least(side)), max(size.height, size.width)))
    most = max(top.height, top.width)
    if not takes(largest(most)):
        start = min(size.height, size.width)
        top = largest(highest(lambda side: takes(largest(side)), start, most=most))
        return replace(sizes, minimum=low, maximum=top)
    return replace(sizes, minimum=low)


def _taken(
    takes: Callable[[int], bool], near: int, steps: Steps, least: int, asked: Sequence[int]
) -> Sides:
    """Find what one axis takes: most modules take a range, whose ends are found by halving.

    One that takes all that are asked about, the first of them above all, has no largest side. To
    ask for more than that costs too much: a recurrent layer runs through each column.
    """
    beyond, *between = (steps.from_(max(side, near)) for side in asked)
    if all(map(takes, (beyond, *between))):
        return sides_taken(takes, near, 0, least=least, steps=steps)
    end = highest(takes, near, most=beyond)
    further = [step for step in STEPS if near + step > end and takes(near + step)]
    if not further:
        return replace(sides_taken(takes, near, 0, least=least), most=end)
    found = sides_taken(takes, near, _FEWEST_SIDES, least=least, further=further)
    if found.most < MAX_SIDE:
        return found
    beyond = found.steps.from_(beyond)
    most = sides_taken(takes, near, 0, least=near, steps=found.steps, most=beyond).most
    return replace(found, most=MAX_SIDE if most == beyond else most)
