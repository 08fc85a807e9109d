"""What the targets share that free a graph and leave its layers and outputs as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from anysize.errors import DeclinedError, UnsupportedModelError, UsageError
from anysize.sizes import MAX_SIDE, Size, SizeRange
from anysize.surgery.axes import fixed_axes
from anysize.surgery.graph import Graph
from anysize.surgery.metadata import read_metadata
from anysize.surgery.shapes import (
    IllegalSizeError,
    infer_shapes,
    legal_sizes,
    smallest_size,
    trained_size,
)
from anysize.surgery.size_guard import guard_min_size, guard_steps
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten

__all__ = ["guarded", "keep_layers", "refuse_other_outputs", "size_to_free_at", "takes_other_sizes"]

_NONE: Mapping[str, str] = MappingProxyType({})


def refuse_other_outputs(to: str, output: Output, *, instead: str = "") -> None:
    """Refuse a choice of output, where the outputs stay what they are.

    Raises:
        UsageError: Something else than the default was asked for; `instead` says what has a map.
    """
    if output != "map":
        way_out = f", or {instead}" if instead else ""
        raise UsageError(
            f"rewrite to {to}, output {output!r}: the outputs stay what they are, so there is no "
            f"map to choose; leave --output out{way_out}"
        )


def size_to_free_at(graph: Graph, size: Size | None) -> Size | NotNeeded:
    """Return the training size, unless the file says that it takes any size and declares none.

    What a file declares is what it was traced at, whatever `size` says.

    Raises:
        DeclinedError: The training size is not known.
    """
    head = read_metadata(graph).head
    if head not in (None, "as-is", "fc") and not fixed_axes(graph):
        return NotNeeded(f"the file records head {head}, which takes any size already")
    trained = trained_size(graph) or size
    if trained is None and not fixed_axes(graph) and takes_other_sizes(graph):
        return NotNeeded("height and width are free already, and the layers take other sizes")
    if trained is None:
        raise DeclinedError("the training size is not known; give --size to say it")
    return trained


def takes_other_sizes(graph: Graph) -> bool:
    """Say whether a graph takes images of any length along one side at least, as it stands."""
    try:
        sizes = legal_sizes(graph, smallest_size(graph))
    except UnsupportedModelError:
        return False
    top = sizes.maximum
    return top is None or max(top.height, top.width) == MAX_SIDE


def keep_layers(graph: Graph, size: Size, *, fixed: Mapping[str, str] = _NONE) -> Rewritten:
    """Guard a graph whose shapes were freed, and say what it is now.

    Args:
        graph: Edited in place.
        size: The training size.
        fixed: The sides, height or width, that its shapes do not follow, and why.

    Raises:
        DeclinedError: A layer bounds both sides.
    """
    shape = infer_shapes(graph, size).get(graph.model.graph.output[0].name, ())
    fixed = fixed or _fixed_by_a_layer(graph, size, legal_sizes(graph, size))
    sizes = guarded(graph, legal_sizes(graph, size, fixed=fixed))
    return Rewritten(
        size=size,
        sizes=sizes,
        classes=shape[1] if len(shape) > 1 else None,
        notes=tuple(
            f"{side} stays {getattr(size, side)}: {reason}" for side, reason in fixed.items()
        ),
    )


def _fixed_by_a_layer(graph: Graph, size: Size, sizes: SizeRange) -> Mapping[str, str]:
    """Find the one side that a layer takes at its length alone, and say which layer."""
    top = sizes.maximum
    bounded = [side for side in ("height", "width") if top and getattr(top, side) < MAX_SIDE]
    if not bounded:
        return _NONE
    reason = "a layer takes it alone"
    try:
        infer_shapes(graph, replace(size, **{side: 2 * getattr(size, side) for side in bounded}))
    except IllegalSizeError as exc:
        reason = str(exc)
    if len(bounded) == 2 and read_metadata(graph).sizes is None:
        raise DeclinedError(f"{reason}; height and width cannot be freed, give --to resize")
    return dict.fromkeys(bounded[:1], reason) if len(bounded) == 1 else _NONE


def guarded(graph: Graph, sizes: SizeRange) -> SizeRange:
    """Let a graph fail at all other sizes; return those, within what the file says already."""
    recorded = read_metadata(graph).sizes
    guard_min_size(graph, sizes.minimum)
    guard_steps(graph, sizes)
    if recorded is None or recorded.maximum is None:
        return sizes
    return sizes & SizeRange(sizes.minimum, recorded.maximum)
