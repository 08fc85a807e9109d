"""Bounds of the image that the user declares, narrower than what the network takes."""

from __future__ import annotations

from anysize.errors import UsageError
from anysize.sizes import Size, SizeRange

__all__ = ["narrowed"]


def narrowed(
    legal: SizeRange, low: Size | None, top: Size | None, *, others: str = ""
) -> SizeRange:
    """Narrow the sizes that a network takes to those that a file shall take.

    Args:
        legal: What the network takes.
        low: The smallest image that the file shall take; None for the network's own.
        top: The largest; None for the network's own.
        others: Why the network takes others, too, but no range of them; "" where it does not.

    Raises:
        UsageError: The bounds reach beyond what the network takes, or leave nothing.
    """
    largest = legal.maximum
    if low is not None and low not in SizeRange(legal.minimum):
        raise UsageError(
            f"min size {low}: the network takes {legal}; give --min-size {legal.minimum} or more"
        )
    if top is not None and largest is not None and largest not in SizeRange(top):
        taken = f"no range that large: it {others}" if others else legal
        raise UsageError(
            f"max size {top}: the network takes {taken}; give --max-size {largest} or less"
        )
    minimum, maximum = low or legal.minimum, top or largest
    if maximum is not None and maximum not in SizeRange(minimum):
        raise UsageError(
            f"max size {maximum}: is below the smallest size, {minimum}; give --max-size "
            f"{minimum} or more"
        )
    try:
        return legal & SizeRange(minimum, maximum)
    except UsageError as error:
        raise UsageError(
            f"sizes {SizeRange(minimum, maximum)}: hold none that the network takes, which are "
            f"{legal}; give a smaller --min-size or a larger --max-size"
        ) from error
