"""Which target frees a file: the one that changes what is fixed in it, and nothing else."""

from __future__ import annotations

from anysize.errors import DeclinedError
from anysize.heads import head_kind
from anysize.sizes import Size
from anysize.surgery.axes import fixed_axes
from anysize.surgery.graph import Graph, Model
from anysize.surgery.metadata import read_metadata
from anysize.surgery.passes import is_given_shapes, local_pool_to_global, whole_map_pools
from anysize.surgery.shapes import IllegalSizeError, infer_shapes, trained_size
from anysize.surgery.targets.dynamic import to_dynamic
from anysize.surgery.targets.fixed_head import FixedHeads, find_fixed_heads, free_backbone
from anysize.surgery.targets.kept_layers import takes_other_sizes
from anysize.surgery.targets.plan import NotNeeded

__all__ = ["find_target"]


def find_target(model: Model, size: Size | None = None) -> str:
    """Say what a file is to be rewritten to, so that it takes any size.

    Args:
        model: Not modified; its weights are not read.
        size: The training size; what the file declares or records, by default.

    Returns:
        `fcn` where a fully connected head fixes the size, `gap` where a window over the whole map
        does, `dynamic` where nothing is fixed but what the file declares. Where a head has a form
        that cannot be told and takes one size, `fcn`, which says what it is.

    Raises:
        IllegalSizeError: The graph does not take images of `size`.
    """
    graph = Graph.of(model)
    if head_kind(read_metadata(graph).head).takes_any_size:
        return "dynamic"
    trained = size or trained_size(graph)
    if trained is None:
        is_free = not fixed_axes(graph) and takes_other_sizes(graph)
        return "dynamic" if is_free else "fcn"
    has_windows = bool(whole_map_pools(graph, trained))
    if has_windows or is_given_shapes(graph):
        graph = graph.light()
        local_pool_to_global(graph, trained)
    try:
        free_backbone(graph, trained)
        is_connected = isinstance(find_fixed_heads(graph, trained), FixedHeads)
    except DeclinedError:
        if has_windows:
            return "gap"
        return "dynamic" if _takes_other_sizes(graph, trained) else "fcn"
    if is_connected:
        return "fcn"
    return "gap" if has_windows else "dynamic"


def _takes_other_sizes(graph: Graph, size: Size) -> bool:
    """Say whether a graph takes other images once its axes and shapes are free."""
    graph = graph.light()
    try:
        freed = to_dynamic(graph, size, "map")
        if isinstance(freed, NotNeeded):
            return True
        larger = freed.sizes.larger(size)
        infer_shapes(graph, larger)
    except (DeclinedError, IllegalSizeError):
        return False
    return larger != size
