"""An original whose windows over the whole trained map are the whole of any map."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from anysize.errors import DeclinedError, UsageError
from anysize.sizes import Size
from anysize.validators.references.graph.model import GraphPair
from anysize.words import and_list

if TYPE_CHECKING:
    import onnx

    from anysize.surgery.graph import Graph

__all__ = ["freed", "freed_original", "has_whole_windows", "with_global_windows"]


def has_whole_windows(graph: Graph, size: Size | None) -> bool:
    """Say whether a pooling of the graph has one window, as large as its map at `size`."""
    return bool(_whole_windows(graph, size))


def with_global_windows(original: GraphPair, size: Size | None) -> GraphPair:
    """Return the original with each window over its whole map made global; else what it is.

    Args:
        original: Not modified.
        size: The training size; what the graph declares or records, by default.

    Raises:
        IllegalSizeError: The graph does not take images of `size`.
    """
    from anysize.surgery import keep_outputs
    from anysize.surgery.passes import GLOBAL_POOLS

    made = _whole_windows(original.graph, size)
    if not made:
        return original
    model = keep_outputs(original.graph, [output.name for output in original.model.graph.output])
    for node in model.graph.node:
        if node.output and node.output[0] in made:
            node.op_type = GLOBAL_POOLS[node.op_type]
            del node.attribute[:], node.output[1:]
    return original.changed(model)


def freed_original(
    original: GraphPair, size: Size | None, *, keep: Collection[str] = ()
) -> GraphPair | None:
    """Return the original with the axes freed that it declares with numbers, and nothing else.

    Args:
        original: Not modified.
        size: The training size; what the graph declares or records, by default.
        keep: Nodes whose numbers are constants, as the rewrite was told.

    Returns:
        The graph; None where it declares no number, or where a layer takes one size alone.
    """
    from anysize.surgery import IllegalSizeError, fixed_axes, keep_outputs, rewrite

    axes = fixed_axes(original.graph)
    if not axes:
        return None
    names = [output.name for output in original.model.graph.output]
    copy = keep_outputs(original.graph, names)
    try:
        done = rewrite(copy, to="dynamic", size=size, keep=keep, in_place=True)
    except (DeclinedError, IllegalSizeError, UsageError):
        return None
    fixed = done.sizes.fixed_sides if done.sizes else ()
    freed_axes = [axis for axis in axes if axis not in fixed]
    name = f"{original.name} with its {and_list(freed_axes)} freed"
    return original.changed(done.model, name=name)


def freed(model: onnx.ModelProto, size: Size | None) -> onnx.ModelProto:
    """Let what takes any size by itself take it in the file, too; `model` is edited in place."""
    from anysize.surgery import drop_guards, free_axes, free_baked_shapes, reshape_to_flatten

    drop_guards(model, "min", "max", "map", "steps")
    reshape_to_flatten(model, size)
    free_baked_shapes(model, size)
    return free_axes(model)


def _whole_windows(graph: Graph, size: Size | None) -> set[str]:
    from anysize.surgery import trained_size
    from anysize.surgery.passes import whole_map_pools

    trained = size or trained_size(graph)
    pools = whole_map_pools(graph, trained) if trained is not None else []
    return {graph.node(index).output[0] for index in pools}
