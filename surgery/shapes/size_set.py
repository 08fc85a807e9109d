"""The set of image sizes that a graph takes: a least one, perhaps a largest, and remainders.

A convolution or a pooling by itself takes every image from some size on. Where two maps meet, or a
map is cut into pieces, sizes in between may fail: skip connections over an upsampled map and space
to depth take multiples of their stride, and a pooling that rounds up beside a convolution that
rounds down takes some remainders of it. So such a graph is walked at every side over more than two
strides, and what repeats there is the set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import onnx

from anysize.bisection import highest, lowest
from anysize.errors import DeclinedError
from anysize.sizes import ANY_SIDE, MAX_SIDE, Size, SizeRange, Steps
from anysize.surgery.graph import Graph, Model, image_input
from anysize.surgery.shapes.rules import SHAPE_KEEPING
from anysize.surgery.shapes.walk import IllegalSizeError, ShapeRun, ShapeWalk, shape_walk
from anysize.surgery.shapes.windows import POOLING

__all__ = ["Sides", "legal_sizes", "sides_taken"]

# What takes every map from some size on, wherever it stands.
_WITHOUT_GAPS = SHAPE_KEEPING | POOLING | {
    "Conv", "Flatten", "Gemm", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
    "InstanceNormalization", "LayerNormalization", "ReduceMax", "ReduceMean", "ReduceSum",
    "Shape", "Transpose",
}  # fmt: skip
# What makes maps of a map; what else has four axes may be windows, or heads of attention.
_STRIDED = POOLING | {"Conv", "ConvTranspose", "DepthToSpace", "Resize", "SpaceToDepth"}
_ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Pow", "Sub"})
# Sides that are walked at least: twice the strides that classifiers end in.
_FEWEST_SIDES = 64
_MOST_SIDES = 256

_Takes = Callable[[int], bool]


def legal_sizes(
    model: Model,
    near: Size,
    *,
    tensors: Iterable[str] = (),
    fixed: Iterable[str] = (),
    least: Size | None = None,
    accepts: Callable[[ShapeRun], bool] | None = None,
    further: Sequence[int] = (),
) -> SizeRange:
    """Find the sizes that a graph takes, by PyTorch's arithmetic.

    Args:
        model: Not modified; its weights are not read.
        near: A size that it takes.
        tensors: Look only at what these are computed from; at the whole graph where empty.
        fixed: The sides, height or width, that are to stay as they are in `near`.
        least: Leave out what is smaller: `near` itself, for whoever asks for larger ones.
        accepts: Says of what is known at a size that the graph takes whether to count it.
        further: How much larger sides are tried where all beyond the next ones are refused.

    Raises:
        DeclinedError: The sizes have no order that could be told.
        IllegalSizeError: The graph does not take `near`.
    """
    graph, names, sides = Graph.of(model), tuple(tensors), tuple(fixed)
    least = least or Size(1, 1)
    if accepts is not None:
        return _legal_sizes(graph, near, names, sides, least, accepts, further)
    return graph.found(
        ("legal sizes", near, names, sides, least, *further),
        lambda: _legal_sizes(graph, near, names, sides, least, None, further),
    )


def _legal_sizes(
    graph: Graph,
    near: Size,
    tensors: tuple[str, ...],
    fixed: tuple[str, ...],
    least: Size,
    accepts: Callable[[ShapeRun], bool] | None,
    further: Sequence[int],
) -> SizeRange:
    walk = shape_walk(graph, tensors)
    takes = partial(_takes, walk, accepts)
    count = 0
    if accepts is not None or may_have_gaps(graph, tensors):
        count = min(max(2 * _stride(walk, near), _FEWEST_SIDES), _MOST_SIDES)
        # Both axes at once, over one of the two strides: what is refused there is refused in each.
        down, across = (int(side not in fixed) for side in ("height", "width"))
        one = range(1, count // 2 + 1)
        if all(takes(Size(near.height + k * down, near.width + k * across)) for k in one):
            count = 0
    height, width = (Sides(side, side, ANY_SIDE) for side in (near.height, near.width))
    if "height" not in fixed:
        height = sides_taken(
            lambda side: takes(Size(side, near.width)),
            near.height,
            count,
            least=least.height,
            further=further,
        )
    if "width" not in fixed:
        width = sides_taken(
            lambda side: takes(Size(near.height, side)),
            near.width,
            count,
            least=least.width,
            further=further,
        )
    low = Size(height.least, width.least)
    # What counts cells takes a narrow image and a flat one, and none of both.
    if low != near and not takes(low):
        low = Size(
            low.height,
            _least(
                lambda side: takes(Size(low.height, side)), near.width, width.steps, width.least
            ),
        )
    top = Size(height.most, width.most)
    is_bounded = min(height.most, width.most) < MAX_SIDE
    return SizeRange(low, top if is_bounded else None, height.steps, width.steps)


def _stride(walk: ShapeWalk, near: Size) -> int:
    """Return how many pixels a cell of the coarsest map takes; a pooled vector is no map."""
    shapes, larger = walk.shapes(near), {}
    with contextlib.suppress(IllegalSizeError):
        larger = walk.shapes(Size(_twice(near.height), _twice(near.width)))
    strided = {name for s in walk.steps if s.node.op_type in _STRIDED for name in s.node.output}
    strides = [1]
    for name, shape in shapes.items():
        is_map = larger.get(name) != shape if larger else name in strided and shape[2:] != (1, 1)
        if len(shape) == 4 and is_map:
            strides += [near.height // max(shape[2], 1), near.width // max(shape[3], 1)]
    return max(strides)


def _twice(side: int) -> int:
    return min(2 * side, MAX_SIDE)


def _takes(walk: ShapeWalk, accepts: Callable[[ShapeRun], bool] | None, size: Size) -> bool:
    try:
        run = walk.run(size)
    except IllegalSizeError:
        return False
    return accepts is None or accepts(run)


@dataclass(frozen=True, slots=True)
class Sides:
    """What one axis takes.

    Attributes:
        least: The least side, in pixels.
        most: The largest; `MAX_SIDE` where there is none.
        steps: The remainders that a side between them may have.
    """

    least: int
    most: int
    steps: Steps


def sides_taken(
    takes: _Takes,
    near: int,
    count: int,
    *,
    steps: Steps = ANY_SIDE,
    least: int = 1,
    most: int = 0,
    further: Sequence[int] = (),
) -> Sides:
    """Find what one axis takes.

    Args:
        takes: Says whether a side is taken.
        near: A side that is.
        count: How many sides from there on are asked one by one; 0 where none of them fails but
            for their remainders.
        steps: The remainders that are known to be possible.
        least: Below it no side is taken.
        most: Look for the largest side up to here, by halving; 0 where there is none, or where it
            lies among the `count` sides.
        further: Steps by which larger sides are asked about, where no order shows in these.

    Raises:
        DeclinedError: The sides have no order that could be told.
    """
    pattern = [takes(near + more) for more in range(count)]
    sides = Sides(1, MAX_SIDE, steps)
    if not all(pattern):
        found = _repeated(pattern, near) or _repeated_run(takes, near, pattern, further)
        run = pattern.index(False)
        if found is None and any(pattern[run:]):
            raise DeclinedError(
                f"of the sides from {near} to {near + count - 1} some are taken and some are not, "
                "in no order that repeats; export the module with `anysize export`, which asks it"
            )
        sides = Sides(1, near + run - 1, ANY_SIDE) if found is None else replace(sides, steps=found)
    if most and sides.most == MAX_SIDE:
        sides = replace(sides, most=_most(takes, near, sides.steps, most))
    return replace(sides, least=_least(takes, near, sides.steps, least))


def _least(takes: _Takes, near: int, steps: Steps, least: int) -> int:
    """Find the least side by halving; `near` is one that is taken."""
    possible = [side for side in range(min(least, near), near + 1) if side in steps]
    return possible[lowest(lambda place: takes(possible[place - 1]), len(possible)) - 1]


def _most(takes: _Takes, near: int, steps: Steps, most: int) -> int:
    """Find the largest side by halving; `near` is one that is taken."""
    possible = [side for side in range(near, max(most, near) + 1) if side in steps]
    return possible[highest(lambda place: takes(possible[place]), 0, most=len(possible) - 1)]


def _repeated_run(
    takes: _Takes, near: int, pattern: Sequence[bool], further: Sequence[int]
) -> Steps | None:
    """Return the first of the steps by which the run of sides around `near` repeats."""
    if not further:
        return None
    low, high = lowest(takes, near), highest(takes, near, most=near + max(further))
    step = next((one for one in further if near + one > high and takes(near + one)), 0)
    again = low + step, high + step
    if high - low + 1 >= step or not all(map(takes, again)):
        return None
    if takes(again[0] - 1) or takes(again[1] + 1):
        return None
    found = Steps(step, tuple(sorted(side % step for side in range(low, high + 1))))
    is_whole = all(one == (side in found) for side, one in enumerate(pattern, near))
    return found if is_whole else None


def _repeated(pattern: Sequence[bool], start: int) -> Steps | None:
    """Return the shortest period of a pattern that was seen at least twice; None without one."""
    for step in range(1, len(pattern) // 2 + 1):
        if all(pattern[place] == pattern[place - step] for place in range(step, len(pattern))):
            taken = {(start + place) % step for place in range(step) if pattern[place]}
            return Steps(step, tuple(sorted(taken)))
    return None


def may_have_gaps(graph: Graph, tensors: Sequence[str] = ()) -> bool:
    """Say whether sizes between those that a graph takes may fail: whether any maps meet."""
    behind = graph.downstream(image_input(graph.model).name)
    wanted = set().union(*(graph.upstream(name) for name in tensors)) if tensors else behind
    made = {name for index in behind for name in graph.node(index).output}
    made.add(image_input(graph.model).name)
    return any(_meets(graph.node(index), made) for index in sorted(behind & wanted))


def _meets(node: onnx.NodeProto, made: set[str]) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return True
    if node.op_type in _ELEMENTWISE | {"MatMul"}:
        return sum(name in made for name in node.input) > 1
    return node.op_type not in _WITHOUT_GAPS
