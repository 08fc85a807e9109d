"""Whether a target can be written: what a refusal names has to lead on."""

from __future__ import annotations

from collections.abc import Callable

from anysize.errors import DeclinedError, UsageError
from anysize.sizes import Size
from anysize.surgery.graph import Graph
from anysize.surgery.shapes import IllegalSizeError
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten

__all__ = ["can_be_written"]

Target = Callable[[Graph, Size | None, Output], Rewritten | NotNeeded]


def can_be_written(target: Target, graph: Graph, size: Size | None) -> bool:
    """Try a target on a weight-free copy; the graph stays as it is."""
    try:
        return isinstance(target(graph.light(), size, "map"), Rewritten)
    except (DeclinedError, IllegalSizeError, UsageError):
        return False
