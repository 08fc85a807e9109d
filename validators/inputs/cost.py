"""What an image costs a graph, at any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size

if TYPE_CHECKING:
    from anysize.surgery.graph import Graph

__all__ = ["cost_of"]


def cost_of(graph: Graph, training: Size | None) -> Callable[[Size], int]:
    """Return what counts the multiply-adds for one image of a size.

    One that the graph does not take counts as one of the training size, by its area.
    """
    from anysize.surgery import multiply_adds

    def at(size: Size) -> int:
        try:
            return sum(multiply_adds(graph, size).values())
        except UnsupportedModelError:
            if training is None or training == size:
                return 0
            return at(training) * size.area // training.area

    return at
