"""Target dynamic: batch, height and width of a graph that could take any are freed; no more."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.axes import fixed_axes
from anysize.surgery.graph import Graph
from anysize.surgery.hard_coded import Follows, UnreadableError
from anysize.surgery.heads import declined
from anysize.surgery.passes import (
    drop_zero_states,
    free_baked_shapes,
    reshape_to_flatten,
    whole_map_pools,
)
from anysize.surgery.targets.fixed_head import FixedHeads, find_fixed_heads
from anysize.surgery.targets.kept_layers import keep_layers, refuse_other_outputs, size_to_free_at
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten

__all__ = ["to_dynamic"]

# What the shapes are to follow → the side that stays as it was traced.
_WAYS: Mapping[Follows, tuple[str, ...]] = MappingProxyType(
    {"size and batch": (), "width and batch": ("height",), "height and batch": ("width",)}
)


def to_dynamic(graph: Graph, size: Size | None, output: Output) -> Rewritten | NotNeeded:
    """Let the shapes that a trace has built in follow the image; layers and outputs stay.

    Args:
        graph: Edited in place: its flattens become Flatten, its shapes are computed.
        size: The training size; what the file declares or records, by default.
        output: Must be `map`, the default: the outputs stay what they are.

    Raises:
        DeclinedError: The training size is not known, a layer takes that size alone, or a shape
            can mean different things; the message names the node.
        IllegalSizeError: The graph does not take images of `size`.
        UsageError: Another output was asked for.
    """
    refuse_other_outputs("dynamic", output, instead="give --to cam")
    trained = size_to_free_at(graph, size)
    if isinstance(trained, NotNeeded):
        return trained
    _refuse_fixed(graph, trained)
    drop_zero_states(graph)
    flattens = reshape_to_flatten(graph, trained)
    is_freed, fixed = _free_shapes(graph, trained)
    if not is_freed and not flattens.applied and not fixed_axes(graph):
        return NotNeeded("batch, height and width are free already, and no shape is built in")
    return keep_layers(graph, trained, fixed=fixed)


def _free_shapes(graph: Graph, size: Size) -> tuple[bool, dict[str, str]]:
    """Free the shapes for both sides, or for the one that can vary.

    Returns:
        Whether there were any, and the side that stays with the reason why.
    """
    refusal: DeclinedError | None = None
    reason = ""
    for follows, fixed in _WAYS.items():
        try:
            done = free_baked_shapes(graph, size, follows=follows)
        except UnreadableError as exc:
            refusal = refusal or exc
            reason = reason or str(exc)
            continue
        if done.applied:
            return True, dict.fromkeys(fixed, reason)
        reason = reason or done.reason
    if refusal is not None:
        raise refusal
    return False, {}


def _refuse_fixed(graph: Graph, size: Size) -> None:
    """Decline where a layer takes the trained map alone, and say what would help."""
    pools = whole_map_pools(graph, size)
    if pools:
        raise declined(
            graph,
            pools[0],
            f"pools over a window as large as the map at {size}, which is local on any other; "
            "give --to gap",
        )
    try:
        found = find_fixed_heads(graph, size)
    except DeclinedError:  # of a form that no rewrite knows; whether it is fixed will be seen
        found = None
    if isinstance(found, FixedHeads):
        head = found.heads[0]
        raise DeclinedError(
            f"the fully connected head on {head.feature_map!r} takes its "
            f"{head.channels}×{head.map_size.height}×{head.map_size.width} alone, so height and "
            "width cannot be freed; give --to fcn, adaptive or resize"
        )
