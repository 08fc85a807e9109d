"""The reference for a file that was converted from another graph, head by head."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from anysize.errors import DeclinedError
from anysize.heads import head_kind
from anysize.sizes import Size
from anysize.validators.references.composed import (
    Part,
    SeveralHeads,
    converted_reference,
)
from anysize.validators.references.graph.fc import OnnxFc
from anysize.validators.references.graph.global_windows import (
    freed,
    has_whole_windows,
    with_global_windows,
)
from anysize.validators.references.graph.model import GraphPair, OnnxReference
from anysize.validators.references.layout import output_layout
from anysize.validators.references.protocol import Reference

if TYPE_CHECKING:
    from anysize.surgery import Head
    from anysize.surgery.graph import Graph, Model
    from anysize.surgery.targets import Output

__all__ = ["converted_graph"]


def converted_graph(
    candidate: Model, original: GraphPair, *, size: Size | None, keep: Collection[str] = ()
) -> Reference:
    """Make the reference for a graph whose head was converted.

    Args:
        candidate: The converted graph; one that says nothing of its head has `fcn`.
        original: The graph before.
        size: The training size.
        keep: Nodes whose numbers are constants, as the rewrite was told.

    Raises:
        DeclinedError: The original has no such head.
    """
    from anysize.surgery import read_metadata
    from anysize.surgery.graph import Graph, image_layout

    rewritten = Graph.of(candidate)
    head, layout = read_metadata(rewritten).head, output_layout(rewritten.model, original.model)
    kind = head_kind(head)

    if kind.averages_map:
        return _averaged(head, original, size, layout, keep)

    def reference(graph: GraphPair) -> Reference:
        return converted_reference(
            head,
            halves=lambda: OnnxFc(graph, size=size, keep=keep),
            whole=lambda: OnnxReference(graph),
            size=size,
            layout=layout,
            sides=image_layout(graph.graph).sides,
        )

    heads = _fixed_heads(original.graph, size) if kind.is_on_each_fc_head else ()
    names = [output.name for output in original.model.graph.output]
    rest = tuple(name for name in names if not any(name in one.outputs for one in heads))
    if not heads or (len(heads) == 1 and not rest):
        return reference(original)
    from anysize.surgery import keep_outputs

    has_maps = layout == "both" and kind.elsewhere != "pools"
    parts = [
        Part(
            reference(original.changed(keep_outputs(original.graph, one.outputs))),
            one.outputs,
            _owners(one) if has_maps else (),
        )
        for one in heads
    ]
    if rest:
        free = original.changed(freed(keep_outputs(original.graph, rest), size))
        parts.append(Part(OnnxReference(free), rest))
    return SeveralHeads(parts, outputs=names)


def _averaged(
    head: str | None,
    original: GraphPair,
    size: Size | None,
    layout: Output,
    keep: Collection[str],
) -> Reference:
    """Cut at the average before the one linear layer, or keep whole what has none."""
    from anysize.surgery import keep_outputs

    windows = with_global_windows(original, size)
    try:
        return converted_reference(
            head,
            halves=lambda: OnnxFc(windows, size=size, is_pooled=True, keep=keep),
            whole=lambda: OnnxReference(original),
            size=size,
            layout=layout,
        )
    except DeclinedError:
        # What changed no layer is the same numbers on both sides.
        if head_kind(head).has_map or not has_whole_windows(original.graph, size):
            raise
    names = [output.name for output in original.model.graph.output]
    return OnnxReference(windows.changed(freed(keep_outputs(windows.graph, names), size)))


def _fixed_heads(graph: Graph, size: Size | None) -> tuple[Head, ...]:
    """Find the FC heads that a conversion replaces; none where they have no form for it."""
    from anysize.surgery import legal_interval
    from anysize.surgery.heads import find_kept_heads

    try:
        heads = find_kept_heads(graph, size)
    except DeclinedError:
        return ()
    return tuple(
        head
        for head in heads
        if legal_interval(graph, head.feature_map, head.image_size).maximum is not None
    )


def _owners(head: Head) -> tuple[str, ...]:
    """Name for each of the head's scores the first output that is read from them."""
    owners: dict[str, str] = {}
    for output, scores in zip(head.outputs, head.scores, strict=True):
        owners.setdefault(scores, output)
    return tuple(owners.values())
