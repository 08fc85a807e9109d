"""Target gap: pooling over a window that is the whole map becomes pooling over any map."""

from __future__ import annotations

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.graph import Graph
from anysize.surgery.passes import (
    GLOBAL_POOLS,
    free_baked_shapes,
    local_pool_to_global,
    reduce_mean_to_global_pool,
    reshape_to_flatten,
)
from anysize.surgery.targets.adaptive import to_adaptive
from anysize.surgery.targets.attempts import can_be_written
from anysize.surgery.targets.dynamic import to_dynamic
from anysize.surgery.targets.fcn import to_fcn
from anysize.surgery.targets.kept_layers import keep_layers, refuse_other_outputs, size_to_free_at
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten
from anysize.surgery.targets.resize import to_resize
from anysize.words import or_list

__all__ = ["to_gap"]


def to_gap(graph: Graph, size: Size | None, output: Output) -> Rewritten | NotNeeded:
    """Make every pooling over a window as large as the map global; layers and outputs stay.

    A graph that pools globally already has nothing fixed but its shapes, which are freed.

    Args:
        graph: Edited in place: its poolings become global, its flattens Flatten.
        size: The training size; what the file declares or records, by default.
        output: Must be `map`, the default: the outputs stay what they are.

    Raises:
        DeclinedError: The training size is not known, or nothing pools over its whole map.
        IllegalSizeError: The graph does not take images of `size`.
        UsageError: Another output was asked for.
    """
    refuse_other_outputs("gap", output, instead="give --to cam")
    trained = size_to_free_at(graph, size)
    if isinstance(trained, NotNeeded):
        return trained
    made = local_pool_to_global(graph, trained)
    if not made.applied:
        if _pools_globally(graph):
            return to_dynamic(graph, trained, output)
        others = {"fcn": to_fcn, "adaptive": to_adaptive, "resize": to_resize}
        ways = [name for name, way in others.items() if can_be_written(way, graph, trained)]
        advice = f"; give --to {or_list(ways)}" if ways else ""
        raise DeclinedError(f"{made.reason}{advice}")
    reshape_to_flatten(graph, trained)
    free_baked_shapes(graph, trained)
    return keep_layers(graph, trained)


def _pools_globally(graph: Graph) -> bool:
    light = graph.light()
    reduce_mean_to_global_pool(light)
    return any(node.op_type in GLOBAL_POOLS.values() for node in light.nodes)
