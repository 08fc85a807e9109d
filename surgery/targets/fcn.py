"""Target fcn: fully connected layers become convolutions, the output a dense map."""

from __future__ import annotations

import contextlib

from anysize.errors import DeclinedError
from anysize.sizes import Size, SizeRange
from anysize.surgery.graph import Graph
from anysize.surgery.heads import find_kept_heads
from anysize.surgery.shapes import legal_sizes
from anysize.surgery.size_guard import (
    drop_guards,
    guard_min_size,
    guard_steps,
    without_guards,
)
from anysize.surgery.targets.fc_to_conv import plan_fc_to_conv
from anysize.surgery.targets.fixed_head import FixedHeads, find_fixed_heads, free_backbone
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten

__all__ = ["to_fcn"]


def _found(graph: Graph, size: Size | None) -> FixedHeads | NotNeeded:
    """Find the heads; where one has no form as convolutions, say what keeps its layers."""
    try:
        return find_fixed_heads(graph, size)
    except DeclinedError as exc:
        with contextlib.suppress(DeclinedError):
            find_kept_heads(graph, size)
            exc = DeclinedError(f"{exc}; --to adaptive keeps the layers as they are", node=exc.node)
        raise exc from None


def to_fcn(graph: Graph, size: Size | None, output: Output) -> Rewritten | NotNeeded:
    """Rewrite to a fully convolutional graph.

    Raises:
        DeclinedError: The rewrite would have to guess; the message names the node.
        IllegalSizeError: The graph does not take images of `size`.
    """
    free_backbone(graph, size)
    drop_guards(graph, "max")
    found = _found(graph, size)
    if isinstance(found, NotNeeded):
        return found
    made = {name for head in found.heads for name in head.outputs}
    others = [value.name for value in graph.model.graph.output if value.name not in made]
    kept = (*(head.feature_map for head in found.heads), *others)
    converted = plan_fc_to_conv(graph, found.heads, output=output)
    converted.edits.apply(graph)
    # The smallest image is left guarded: ONNX Runtime must not meet an empty map.
    drop_guards(graph, "map")
    if output != "map":  # the mean over an empty map is NaN, and nothing else would fail
        for head in found.heads:
            guard_min_size(graph, head.map_size, tensor=head.feature_map)
    # A guard would have every side walked; what it refuses is known.
    taken = legal_sizes(without_guards(graph, "min"), found.image_size, least=found.image_size)
    sizes = SizeRange(found.interval.minimum, None, taken.heights, taken.widths)
    guard_steps(graph, sizes)
    return Rewritten(
        size=found.image_size,
        sizes=sizes,
        classes=found.classes,
        map_tensor=converted.map_tensor,
        head=found.heads[0],
        kept=kept,
    )
