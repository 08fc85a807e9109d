"""What a Reshape means at every size, worked out from one.

Each axis of a tensor is a product of pieces, in row-major order. A piece is the tuple of its
lengths at the training size and at some others: constant for one that belongs to the network (29
channels), else an extent of the image (its batch, the height of a map). A Reshape keeps row-major
order, so its sides are the same pieces, grouped anew: the products of the first sides of the
target must meet the products of the first pieces. A constant piece may be cut in two, and so may
an extent, where one of its parts is constant: (4, 7) of 28 rows are four windows of a height, or
seven.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, pairwise, product

__all__ = ["Axis", "Piece", "grows", "lengths", "meanings"]

Piece = tuple[int, ...]
Axis = tuple[Piece, ...]

_MOST_READINGS = 16


def grows(piece: Piece) -> bool:
    """Say whether a length follows the image."""
    return len(set(piece)) > 1


def lengths(axis: Axis, cases: int) -> Piece:
    """Return the length of an axis in each of the cases; one without pieces has length 1."""
    return tuple(math.prod(piece[case] for piece in axis) for case in range(cases))


def meanings(axes: Sequence[Axis], target: Sequence[int]) -> tuple[tuple[Axis, ...], ...]:
    """List what a Reshape to `target` may mean for a tensor with these axes.

    Args:
        axes: The tensor's axes; their lengths in the first case are those at the training size.
        target: The sides it is reshaped to at the training size.

    Returns:
        For each meaning the axes of the result. None where a side would have to cut through an
        extent unevenly, or where an extent of length 1 has no place in the order.
    """
    if [math.prod(piece[0] for piece in axis) for axis in axes] == list(target):
        return (tuple(axes),)
    pieces = [piece for axis in axes for piece in axis if piece[0] > 1 or grows(piece)]
    found: list[tuple[Axis, ...]] = []
    for cut in _cuts(pieces, target):
        for laid in _laid(cut, target):
            if laid not in found:
                found.append(laid)
            if len(found) > _MOST_READINGS:
                return ()
    return tuple(found)


def _cuts(pieces: Sequence[Piece], target: Sequence[int]) -> Iterator[list[Piece]]:
    """Cut pieces wherever a side of the target ends inside one."""
    ends = sorted({math.prod(target[:axis]) for axis in range(len(target) + 1)})
    options: list[list[tuple[Piece, ...]]] = []
    before = 1
    for piece in pieces:
        after = before * piece[0]
        marks = [before, *(end for end in ends if before < end < after), after]
        if any(end % start for start, end in pairwise(marks)):
            return
        parts = [end // start for start, end in pairwise(marks)]
        options.append(list(_parts(piece, parts)))
        before = after
    for choice in product(*options):
        yield [part for parts_of_one in choice for part in parts_of_one]


def _parts(piece: Piece, parts: Sequence[int]) -> Iterator[tuple[Piece, ...]]:
    """Yield the ways to cut a piece into parts that long at the training size."""
    cases = len(piece)
    if len(parts) < 2:
        yield (piece,) if parts else ()
        return
    if not grows(piece):
        yield tuple((part,) * cases for part in parts)
        return
    for follows, part in enumerate(parts):
        rest = piece[0] // part
        if all(length % rest == 0 for length in piece):
            whole = [(other,) * cases for other in parts]
            whole[follows] = tuple(length // rest for length in piece)
            yield tuple(whole)


def _laid(pieces: Sequence[Piece], target: Sequence[int]) -> Iterator[tuple[Axis, ...]]:
    """Lay pieces on the sides of the target, in order; those of length 1 wherever they may lie."""
    starts = [math.prod(target[:axis]) for axis in range(len(target))]
    before, offsets = 1, set()
    for piece in pieces:
        offsets |= {before} if piece[0] == 1 else set()
        before *= piece[0]
    # A side of length 1 where no extent can lie: a transposition that moves nothing in one image.
    is_moved = any(s == 1 and start not in offsets for start, s in zip(starts, target, strict=True))
    places: list[list[tuple[int, ...]]] = []
    before, index = 1, 0
    while index < len(pieces):
        if pieces[index][0] > 1:
            places.append([(_covering(starts, target, before),)])
            before *= pieces[index][0]
            index += 1
            continue
        count = 1
        while index + count < len(pieces) and pieces[index + count][0] == 1:
            count += 1
        places.append(list(_places(starts, target, before, count, may_merge=not is_moved)))
        index += count
    for choice in product(*places):
        axes: list[list[Piece]] = [[] for _ in target]
        order = (axis for axes_of_one in choice for axis in axes_of_one)
        for piece, axis in zip(pieces, order, strict=True):
            axes[axis].append(piece)
        yield tuple(tuple(axis) for axis in axes)


def _covering(starts: Sequence[int], target: Sequence[int], offset: int) -> int:
    """Return the side, longer than 1, on which what begins at an offset lies."""
    return next(
        axis
        for axis, (start, side) in enumerate(zip(starts, target, strict=True))
        if start <= offset < start * side
    )


def _places(
    starts: Sequence[int], target: Sequence[int], offset: int, count: int, *, may_merge: bool
) -> Iterator[tuple[int, ...]]:
    """Yield the sides on which `count` extents of length 1 at an offset may lie."""
    sides = list(enumerate(zip(starts, target, strict=True)))
    inside = [axis for axis, (start, side) in sides if start < offset < start * side]
    free = [axis for axis, (start, side) in sides if side == 1 and start == offset]
    if inside:
        yield (inside[0],) * count
    elif len(free) == count:
        yield tuple(free)
    elif free:
        yield from combinations_with_replacement(free, count)
    elif may_merge:
        near = [a for a, (s, side) in sides if side > 1 and offset in (s, s * side)]
        yield from combinations_with_replacement(near, count)
