"""Ask the module itself whether it takes the sizes that its graph was computed to take.

The arithmetic of shapes finds the smallest image at which every window fits and every map has a
cell. A module can be stricter: position embeddings for so many cells, an addition in place that
must not broadcast, a check of its own. A graph that answers there answers what PyTorch refuses.
"""

from __future__ import annotations

from anysize.bisection import highest, lowest
from anysize.errors import ExportError
from anysize.exporters.sizes.probe import Probe
from anysize.sizes import MAX_SIDE, Size, SizeRange

__all__ = ["accepted_sizes"]


def accepted_sizes(
    probe: Probe, computed: SizeRange, *, name: str, size: Size, larger: Size
) -> SizeRange:
    """Narrow the sizes that a graph takes to those that the module takes, too.

    Args:
        probe: The module.
        computed: What the graph takes; unbounded above.
        name: How messages call the module.
        size: The training size.
        larger: A size beyond it, both ways; a module that takes it has no largest.

    Raises:
        ExportError: The sizes that the module takes are no range of heights by one of widths.
    """

    def takes_height(side: int) -> bool:
        return probe.accepts(Size(side, size.width))

    def takes_width(side: int) -> bool:
        return probe.accepts(Size(size.height, side))

    minimum, maximum = computed.minimum, computed.maximum
    has_largest = maximum is None and not probe.accepts(larger, 3)
    # One that has a largest size may take none between the smallest and those around its own.
    if has_largest or not probe.accepts(minimum):
        minimum = Size(
            lowest(takes_height, size.height, least=minimum.height),
            lowest(takes_width, size.width, least=minimum.width),
        )
    if has_largest:
        most = MAX_SIDE if probe.is_cheap else max(larger.height, larger.width)
        maximum = Size(
            highest(takes_height, size.height, most=most),
            highest(takes_width, size.width, most=most),
        )
    if (minimum, maximum) == (computed.minimum, computed.maximum):
        return computed
    corners = {minimum, maximum or larger}
    corners |= {Size(one.height, other.width) for one in corners for other in corners}
    for corner in sorted(corners):
        if not probe.accepts(corner):
            raise ExportError(
                f"{name}: takes images of {size} but not of {corner}: {probe.refusal(corner)}; "
                "the sizes that it takes are no range of heights by a range of widths"
            )
    return SizeRange(minimum, maximum)
