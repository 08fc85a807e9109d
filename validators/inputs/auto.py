"""The sizes of `--sizes auto`: those at which wrong graphs have been caught."""

from __future__ import annotations

from collections.abc import Iterable

from anysize.sizes import MAX_SIDE, Size, SizeRange, Steps

__all__ = ["auto_sizes"]

_DEFAULT_STRIDE = (32, 32)


def auto_sizes(
    training: Size,
    *,
    legal: SizeRange | None = None,
    stride: tuple[int, int] | None = None,
    is_interval: bool = False,
    folding: Size | None = None,
) -> tuple[Size, ...]:
    """Choose sizes around what a file declares, from the smallest to the largest.

    A graph for any size gets its training size and both neighbours of it, the smallest legal size
    and one row and one column below (which must be rejected, like a remainder that is not
    possible), half as wide and half as high again,
    a prime, one off the stride grid, and twice the training size. A fixed-size graph gets the
    corners of its interval, the training size and its neighbours, the sizes just outside, twice the
    training size, and the size whose map is twice as high: a flatten by Reshape to (−1, K) folds
    space into the batch there, and answers all the same.

    Args:
        training: The training size.
        legal: What the file declares legal; None where it says nothing.
        stride: Pixels between neighbouring cells of the map, (height, width).
        is_interval: The graph has an FC head, so only `legal` can be right.
        folding: Where the map that an FC head flattens is twice as high, if it has one.
    """
    height, width = training.height, training.width
    sides = {(height, width), (height - 1, width - 1), (height + 1, width + 1)}
    if legal is not None:
        sides.update(_edges(legal))
    folded = set() if folding is None else {(folding.height, folding.width)}
    if is_interval:
        folded.add((2 * height, 2 * width))
        if legal is None or legal.maximum is None:
            folded.add((height, 2 * width))
    else:
        down, across = stride or _DEFAULT_STRIDE
        sides.update(
            (
                (height, width + max(width // 2, 1)),
                (height + max(height // 2, 1), width),
                (_next_prime(height + 1), _next_prime(width + 1)),
                (height + down + down // 2 + 1, width + across // 2 + 1),
                (2 * height, 2 * width),
            )
        )
    return _sorted((*_within(sides, legal), *_within(folded, None)))


def _edges(legal: SizeRange) -> set[tuple[int, int]]:
    low = legal.minimum
    edges = {
        (low.height, low.width),
        (low.height - 1, low.width),
        (low.height, low.width - 1),
    }
    # One side with a remainder that is not possible, far enough above the least.
    if not legal.heights.is_any:
        edges.add((_impossible(legal.heights, low.height), low.width))
    if not legal.widths.is_any:
        edges.add((low.height, _impossible(legal.widths, low.width)))
    if legal.maximum is not None:
        # A side that reaches MAX_SIDE has no end that anybody waits for.
        ends = [side < MAX_SIDE for side in (legal.maximum.height, legal.maximum.width)]
        height = legal.maximum.height if ends[0] else low.height
        width = legal.maximum.width if ends[1] else low.width
        edges |= {(height, width), (low.height, width), (height, low.width)}
        edges |= {(height + 1, width)} if ends[0] else set()
        edges |= {(height, width + 1)} if ends[1] else set()
    return edges


def _impossible(steps: Steps, least: int) -> int:
    return next(side for side in range(least + 1, least + steps.step + 1) if side not in steps)


def _within(sides: Iterable[tuple[int, int]], legal: SizeRange | None) -> Iterable[Size]:
    """Keep what is a size, and of the illegal ones only those one step outside.

    Where some remainders alone are possible, the nearest legal size stands for one in between.
    """
    near = _edges(legal) if legal else set()
    for height, width in sides:
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            continue
        size = Size(height, width)
        if legal is None or size in legal or (height, width) in near:
            yield size
        elif size in SizeRange(legal.minimum, legal.maximum):
            other = legal.near(height, width)
            if other is not None:
                yield other


def _sorted(sizes: Iterable[Size]) -> tuple[Size, ...]:
    return tuple(sorted(set(sizes), key=lambda size: (size.area, size.height)))


def _next_prime(start: int) -> int:
    number = max(start, 2)
    while any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
        number += 1
    return number
