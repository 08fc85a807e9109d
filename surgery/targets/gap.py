"""Target gap: an average over a window that is the whole map becomes the average over any map."""

from __future__ import annotations

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.graph import Graph
from anysize.surgery.passes import free_baked_shapes, local_pool_to_global, reshape_to_flatten
from anysize.surgery.targets.kept_layers import keep_layers, refuse_other_outputs, size_to_free_at
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten

__all__ = ["to_gap"]


def to_gap(graph: Graph, size: Size | None, output: Output) -> Rewritten | NotNeeded:
    """Make a pooling over a fixed window global; layers and outputs stay.

    Args:
        graph: Edited in place: its poolings become global, its flattens Flatten.
        size: The training size; what the file declares or records, by default.
        output: Must be `map`, the default: the outputs stay what they are.

    Raises:
        DeclinedError: The training size is not known, or no window covers its map.
        IllegalSizeError: The graph does not take images of `size`.
        UsageError: Another output was asked for.
    """
    refuse_other_outputs("gap", output, instead="give --to cam")
    trained = size_to_free_at(graph, size)
    if isinstance(trained, NotNeeded):
        return trained
    made = local_pool_to_global(graph, trained)
    if not made.applied:
        if any(node.op_type == "GlobalAveragePool" for node in graph.nodes):
            return NotNeeded(f"{made.reason}, and the graph pools globally already")
        raise DeclinedError(f"{made.reason}; give --to fcn, adaptive or resize for FC layers")
    reshape_to_flatten(graph, trained)
    free_baked_shapes(graph, trained)
    return keep_layers(graph, trained)
