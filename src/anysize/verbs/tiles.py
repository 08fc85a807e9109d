"""An image in tiles whose maps are, put together, the map of the whole image.

A tile begins at a multiple of the map's stride and ends where a multiple of it is left, so that
every layer pads and rounds in it as it does in the whole. Of its cells those count whose receptive
field lies within it, or reaches over the image's own edge. That holds for a graph whose cells see a
window of the image; any other is run whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from anysize.sizes import ANY_SIDE, Size, SizeRange, Steps

if TYPE_CHECKING:
    from anysize.surgery.graph import Graph

__all__ = ["Span", "tiles"]

# What the activations of one run may take; an image of more is run in tiles.
_MOST_BYTES: Final = 128 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one side.

    Attributes:
        pixels: Of the image.
        cells: Of the map, those that it decides.
        inner: The same ones in the tile's own map.
    """

    pixels: slice
    cells: slice
    inner: slice


def tiles(
    graph: Graph, output: str, size: Size, legal: SizeRange | None
) -> list[tuple[Span, Span]]:
    """Divide an image into tiles that fit into memory; one, where it fits or they would differ.

    Args:
        graph: Its weights are not read.
        output: The map.
        size: Of the image.
        legal: The sizes that the graph takes; None for any.

    Returns:
        Rows and columns of each tile.
    """
    from anysize.surgery import infer_shapes, map_geometry

    cells = infer_shapes(graph, size).get(output, ())[2:]
    geometry = map_geometry(graph, output)
    if geometry is None or len(cells) != 2:  # a cell may see the whole image
        whole = slice(0, None)
        height, width = slice(0, size.height), slice(0, size.width)
        return [(Span(height, whole, whole), Span(width, whole, whole))]
    low = legal.minimum if legal is not None else Size(1, 1)
    steps = (legal.heights, legal.widths) if legal is not None else (ANY_SIDE, ANY_SIDE)
    sides = ((size.height, cells[0], low.height), (size.width, cells[1], low.width))
    most, least = max(size.height, size.width), 2 * max(geometry.receptive_field)
    while True:
        rows, columns = (
            list(
                _spans(
                    *side,
                    stride=geometry.stride[axis],
                    start=geometry.offset[axis] - geometry.receptive_field[axis] / 2,
                    field=geometry.receptive_field[axis],
                    steps=steps[axis],
                    most=most,
                )
            )
            for axis, side in enumerate(sides)
        )
        largest = Size(_longest(rows), _longest(columns))
        if most <= least or _activation_bytes(graph, largest) <= _MOST_BYTES:
            return [(row, column) for row in rows for column in columns]
        most //= 2


def _longest(spans: list[Span]) -> int:
    return max(int(one.pixels.stop - one.pixels.start) for one in spans)


def _spans(
    length: int,
    cells: int,
    least: int,
    *,
    stride: int,
    start: float,
    field: int,
    steps: Steps,
    most: int,
) -> Iterator[Span]:
    """Divide one side of an image into tiles.

    Args:
        length: Pixels of the side.
        cells: Cells of the map along it.
        least: The smallest side that the network takes.
        stride: Pixels between two cells.
        start: The first pixel that cell 0 sees; below zero where it sees padding.
        field: Pixels that one cell sees.
        steps: The remainders that its sides have.
        most: Pixels of a tile, roughly.
    """
    unit = math.lcm(stride, steps.step)
    if most >= length:
        yield Span(slice(0, length), slice(0, cells), slice(0, cells))
        return
    at_once = max(1, (most - field) // stride)
    for first in range(0, cells, at_once):
        last = min(first + at_once, cells)
        begin = max(0, math.floor(start + first * stride) // unit * unit)
        needed = math.ceil(start + (last - 1) * stride) + field
        end = length - max(0, length - max(needed, begin + least)) // unit * unit
        begin = min(begin, max(0, (end - least) // unit * unit))
        offset = begin // stride
        yield Span(slice(begin, end), slice(first, last), slice(first - offset, last - offset))


def _activation_bytes(graph: Graph, size: Size) -> int:
    from anysize.verbs.costs import part_costs

    (cost,) = part_costs(graph, size, None)
    return cost.activation_bytes
