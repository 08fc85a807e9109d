"""The two graphs that the proof of a rewrite compares, and the original's layers between them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import DeclinedError
from anysize.heads import GAP
from anysize.sizes import Size
from anysize.validators.references import Reference

if TYPE_CHECKING:
    from anysize.surgery.graph import Model
    from anysize.validators.references.graph import GraphPair

__all__ = ["open_graphs", "own_layers"]


def open_graphs(
    original: Model | Path | GraphPair,
    rewritten: Model | Path | GraphPair,
    source: Path | None,
    *,
    scores: bool,
    threads: int,
) -> tuple[GraphPair, GraphPair]:
    """Open both, cut at the scores that labels are read from where that is asked for."""
    from anysize.validators.references import output_layout
    from anysize.validators.references.graph import GraphPair, with_scores

    def graph(one: Model | Path | GraphPair, name: str) -> GraphPair:
        if isinstance(one, GraphPair):
            return one
        if isinstance(one, Path):
            return GraphPair.of_file(one, name=name, threads=threads)
        return GraphPair(one, name=name, source=source, threads=threads)

    name = original.name if isinstance(original, Path) else "original"
    old, new = graph(original, name), graph(rewritten, "rewritten")
    if not scores:
        return old, new
    is_map = output_layout(new.model, old.model) == "map"
    return (
        old.changed(with_scores(old.graph, is_map=False)),
        new.changed(with_scores(new.graph, is_map=is_map)),
    )


def own_layers(
    original: GraphPair, rewritten: GraphPair, training: Size | None, keep: Collection[str]
) -> Reference | None:
    """Make the reference of the original's own layers; None where pooling was global before.

    Such layers were not changed, so they would be the same numbers on both sides.
    """
    from anysize.surgery import read_metadata
    from anysize.validators.references.graph import converted_graph, has_whole_windows

    try:
        return converted_graph(rewritten.graph, original, size=training, keep=keep)
    except DeclinedError:
        is_gap = read_metadata(rewritten.graph).head == GAP
        if not is_gap or training is None or has_whole_windows(original.graph, training):
            raise
    return None
