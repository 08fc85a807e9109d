"""A model with its own functions written out."""

from __future__ import annotations

import onnx
import onnx.inliner

from anysize.surgery.graph.graph import Graph
from anysize.surgery.storage import weight_free

__all__ = ["inlined"]


def inlined(graph: Graph) -> Graph:
    """Return the graph with its functions in place, so that a walk sees standard operators.

    Its nodes have other numbers where the model has functions; its large weights are gone.
    """
    if not graph.model.functions:
        return graph
    return graph.found(
        "inlined",
        lambda: Graph(onnx.inliner.inline_local_functions(weight_free(graph.model))),
    )
