"""The cases of `quick`: the kinds of sizes that `auto` has, chosen by what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anysize.sizes import Size, SizeRange
from anysize.validators.inputs.auto import auto_sizes
from anysize.validators.inputs.cases import Case, plan_cases

__all__ = ["RewritePlan", "is_heavy", "quick_cases", "rewrite_plan"]

# What all images together may cost: about a second on two cores, for each is run about six times.
_AFFORDABLE = 8 << 30
# A network that takes as much for a few images of its training size gets as many of them.
_TRAINED_IMAGES = 4
# The small sizes share what is affordable; all of their kinds together are as many images.
_SMALL_IMAGES = 48
# A map has this many cells along a side at least.
_CELLS = 2
_MAP_CELLS = 7


def quick_cases(
    training: Size,
    batches: Sequence[int] | int,
    *,
    cost: Callable[[Size], int],
    legal: SizeRange | None = None,
    stride: tuple[int, int] | None = None,
    is_interval: bool = False,
    folding: Size | None = None,
) -> tuple[Case, ...]:
    """Choose sizes and batches: all of `auto` where that is cheap, fewer and smaller ones if not.

    A heavy network keeps its training size, one image that is larger along both sides, not square
    and off the stride grid, the sizes that must be rejected, and several images at a size whose map
    is one cell wider than high. The other kinds, the least size and what lies around the training
    size, are tried around a smaller one. An FC head, which takes no smaller one, keeps both ends of
    its interval.

    Args:
        training: The training size.
        batches: Numbers of images.
        cost: Multiply-adds for one image of a size.
        legal: What the file declares legal; None where it says nothing.
        stride: Pixels between neighbouring cells of the map, (height, width).
        is_interval: The graph has an FC head, so only `legal` can be right.
        folding: Where the map that an FC head flattens is twice as high, if it has one.
    """
    sizes = auto_sizes(
        training, legal=legal, stride=stride, is_interval=is_interval, folding=folding
    )
    cases = plan_cases(sizes, batches)
    affordable = max(_AFFORDABLE, _TRAINED_IMAGES * cost(training))
    if sum(case.batch * cost(case.size) for case in cases) <= affordable:
        return cases
    counts = sorted({case.batch for case in cases})
    few, many = counts[0], counts[-1]
    allowed = legal or SizeRange(Size(1, 1))
    down, across = stride or _usual_stride(training)
    if is_interval:
        small = training
        top = allowed.larger(training)
        high, wide = (top.height, training.width), (training.height, top.width)
    else:
        small = _smaller(training, allowed, (down, across), affordable / cost(training))
        high = training.height + down + down // 2 + 1, training.width + across // 2 + 1
        wide = small.height, small.width + across
    outside = {size for size in sizes if size not in allowed}
    if folding is not None:  # twice the height says as much as twice both
        outside.discard(Size(2 * training.height, 2 * training.width))
    chosen = {
        Case(size, few)
        for size in (training, allowed.minimum, allowed.near(*high) or allowed.maximum, *outside)
        if size
    }
    chosen |= {Case(size, many) for size in (allowed.near(*wide),) if size}
    around = auto_sizes(small, legal=legal, stride=stride, is_interval=is_interval)
    further = {Case(size, many) for size in around if size in allowed}
    further |= {Case(allowed.minimum, batch) for batch in counts}
    spent = sum(case.batch * cost(case.size) for case in chosen)
    for case in sorted(further - chosen, key=lambda one: one.batch * cost(one.size)):
        spent += case.batch * cost(case.size)
        if spent > affordable:
            break
        chosen.add(case)
    return tuple(sorted(chosen, key=lambda case: (case.size.area, case.size.height, case.batch)))


def _usual_stride(training: Size) -> tuple[int, int]:
    """Most classifiers' maps have seven cells along a side."""
    return max(training.height // _MAP_CELLS, 1), max(training.width // _MAP_CELLS, 1)


def is_heavy(cost: int) -> bool:
    """Whether a few images at this many multiply-adds are more than is affordable."""
    return _TRAINED_IMAGES * cost > _AFFORDABLE


def _smaller(training: Size, allowed: SizeRange, stride: tuple[int, int], images: float) -> Size:
    """Return a size that is worth a small part of so many images of the training size."""
    scale = math.sqrt(images / _SMALL_IMAGES)
    height, width = (
        min(side, max(int(side * scale), _CELLS * cells))
        for side, cells in zip((training.height, training.width), stride, strict=True)
    )
    return allowed.near(height, width) or training


@dataclass(frozen=True, slots=True)
class RewritePlan:
    """Where a rewrite is compared with its original.

    Attributes:
        sizes: Beside the training size.
        trained_batch: Images at a time at the training size.
        batch: Images at a time at the others; the first of them gets two in any case.
    """

    sizes: tuple[Size, ...]
    trained_batch: int = 2
    batch: int = 1


def rewrite_plan(
    training: Size,
    allowed: SizeRange,
    *,
    cost: int,
    stride: tuple[int, int] | None,
    is_below: bool,
    is_full: bool,
) -> RewritePlan:
    """Choose where a rewrite is compared with its original, by what that costs.

    Two larger sizes, neither square: one is wider, one higher and off the stride grid. Those of a
    heavy network are as close to the training size as a second window allows, and at the training
    size it gets one image.

    Args:
        training: The training size.
        allowed: What the new graph takes.
        cost: Multiply-adds for one image of the training size.
        stride: Pixels between neighbouring cells of the map, (height, width).
        is_below: The original can be asked about smaller images, too.
        is_full: All sizes of `auto` instead.
    """
    down, across = stride or _usual_stride(training)
    height, width = training.height, training.width
    if is_full:
        every = auto_sizes(training, legal=allowed, stride=stride)
        return RewritePlan(tuple(size for size in every if size in allowed), batch=2)
    wanted = [(height + down, width + 2 * across), (height + 2 * down + 1, width + across + 1)]
    if is_heavy(cost):
        wanted = [(height, width + across), (height + down + 1, width + across)]
    if is_below:
        low = allowed.minimum
        wanted.append(((low.height + height) // 2, (2 * low.width + width) // 3))
    near = (allowed.near(*sides) for sides in wanted)
    return RewritePlan(tuple(size for size in near if size is not None), 1 if is_heavy(cost) else 2)
