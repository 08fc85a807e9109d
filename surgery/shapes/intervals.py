"""Ranges of image sizes: where a feature map keeps its size, and where a graph begins to work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from anysize.bisection import highest, lowest
from anysize.errors import ModelFileError, UnsupportedModelError
from anysize.sizes import MAX_SIDE, Size, SizeRange
from anysize.surgery.graph import Graph, Model, static_size
from anysize.surgery.metadata import read_metadata
from anysize.surgery.shapes.rules import Shape
from anysize.surgery.shapes.walk import (
    IllegalSizeError,
    OversizedError,
    ShapeWalk,
    infer_shapes,
    shape_walk,
)

__all__ = ["legal_interval", "refuse_oversized", "smallest_size", "trained_size"]

# Where the file does not tell.
_SOME_SIZE = Size(224, 224)
_Axis = Literal["height", "width"]
_AXES: tuple[_Axis, ...] = ("height", "width")


def trained_size(model: Model) -> Size | None:
    """Return the size that a file was made for: its static input, else `anysize.size`, else None.

    Raises:
        ModelFileError: The metadata entry is malformed.
        UnsupportedModelError: The graph has no image input.
    """
    graph = Graph.of(model)
    return static_size(graph) or read_metadata(graph).size


def refuse_oversized(model: Model, path: Path) -> None:
    """Refuse a file with a tensor larger than any layer of a classifier, which no runtime bounds.

    Args:
        model: Not run, and its weights are not read.
        path: The model's file, for the message.

    Raises:
        ModelFileError: It has one, at the size that it was made for.
    """
    try:
        infer_shapes(model, trained_size(model) or _SOME_SIZE)
    except OversizedError as error:
        raise ModelFileError(f"{path}: {error}") from error
    except UnsupportedModelError:
        return  # sizes that the graph does not take are for the comparison to show


def legal_interval(model: Model, tensor: str, size: Size) -> SizeRange:
    """Find the sizes around `size` at which the feature map `tensor` keeps its height × width.

    That is the whole range of a fully connected head behind it (VGG-16: 224 to 255 each way).
    The two axes are independent, and a map never shrinks when its image grows, so each bound is
    found by bisection.

    Args:
        model: Not modified; only what `tensor` is computed from is looked at.
        tensor: Name of a `(batch, channels, height, width)` tensor.
        size: A size inside the interval.

    Returns:
        The interval; its maximum is None where both axes are unbounded, and `MAX_SIDE` on an axis
        that alone is.

    Raises:
        IllegalSizeError: `size` itself is illegal.
        UnsupportedModelError: The tensor's shape cannot be worked out.
    """
    graph = Graph.of(model)
    return graph.found(
        ("legal interval", tensor, size), lambda: _legal_interval(graph, tensor, size)
    )


def _legal_interval(graph: Graph, tensor: str, size: Size) -> SizeRange:
    walk = shape_walk(graph, [tensor])
    shape = walk.shapes(size).get(tensor)
    if shape is None or len(shape) != 4:
        raise UnsupportedModelError(
            f"tensor {tensor!r}: got shape {shape}, expected (batch, channels, height, width)"
        )

    def at(other: Size) -> Shape | None:
        try:
            return walk.shapes(other).get(tensor)
        except IllegalSizeError:
            return None

    def keeps(axis: _Axis, side: int) -> bool:
        return at(_with(size, axis, side)) == shape

    twice = at(Size(min(2 * size.height, MAX_SIDE), min(2 * size.width, MAX_SIDE)))
    low: dict[_Axis, int] = {}
    top: dict[_Axis, int] = {}
    for place, axis in enumerate(_AXES, start=2):
        side: int = getattr(size, axis)
        low[axis] = lowest(partial(keeps, axis), side)
        cells = twice[place] - shape[place] if twice and len(twice) == 4 else 0
        # Maps that grow by one cell with each stride keep their size over one stride.
        guess = low[axis] + side // cells - 1 if cells > 0 else MAX_SIDE - 1
        top[axis] = highest(partial(keeps, axis), side, most=MAX_SIDE, guess=guess)
    minimum = Size(low["height"], low["width"])
    if min(top.values()) == MAX_SIDE:
        return SizeRange(minimum)
    return SizeRange(minimum, Size(top["height"], top["width"]))


def smallest_size(
    model: Model,
    near: Size | None = None,
    *,
    has_gaps: bool = False,
    tensors: Iterable[str] = (),
) -> Size:
    """Find the smallest image that an any-size graph can take, by PyTorch's arithmetic.

    At the size returned every window fits and every map has at least one cell; one pixel less on
    either axis is illegal.

    Args:
        model: A graph without a fixed-size head (for one of those, ask `legal_interval`).
        near: A size known to be legal; the trained size, or else one found by doubling, by
            default.
        has_gaps: Illegal sizes lie between legal ones, so each size is tried in turn.
        tensors: Look only at what these are computed from; at the whole graph where empty.

    Raises:
        UnsupportedModelError: No size up to 4096×4096 is legal; the last reason is given.
    """
    graph = Graph.of(model)
    refusal = partial(_refusal, shape_walk(graph, tensors))
    start = near or trained_size(graph) or Size(32, 32)
    reason: IllegalSizeError | None = None
    while True:
        reason = refusal(start)
        if reason is None:
            break
        if max(start.height, start.width) > 2048:
            raise UnsupportedModelError(
                f"no legal image size found up to {start}; {reason}"
            ) from reason
        start = Size(2 * start.height, 2 * start.width)

    def works(axis: _Axis, side: int) -> bool:
        return refusal(_with(start, axis, side)) is None

    find = _first if has_gaps else lowest
    height, width = (find(partial(works, axis), getattr(start, axis)) for axis in _AXES)
    if refusal(Size(height, width)) is None:
        return Size(height, width)
    # What counts cells takes a narrow image and a flat one, and none that is both.
    return Size(height, find(lambda side: refusal(Size(height, side)) is None, start.width))


def _refusal(walk: ShapeWalk, size: Size) -> IllegalSizeError | None:
    try:
        walk.shapes(size)
    except IllegalSizeError as exc:
        return exc
    return None


def _with(size: Size, axis: _Axis, side: int) -> Size:
    return replace(size, height=side) if axis == "height" else replace(size, width=side)


def _first(holds: Callable[[int], bool], start: int) -> int:
    """Return the lowest side of all up to `start` for which `holds`."""
    return next(side for side in range(1, start + 1) if holds(side))
