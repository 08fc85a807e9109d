"""Reshape and Squeeze spellings of a flatten → Flatten(axis=1)."""

from __future__ import annotations

import onnx

from anysize.sizes import Size
from anysize.surgery.graph import Edits, Graph, Model
from anysize.surgery.heads import is_flatten, traced_shapes
from anysize.surgery.passes.result import PassResult, applied, refused
from anysize.surgery.shapes import trained_size

__all__ = ["reshape_to_flatten"]


def reshape_to_flatten(model: Model, size: Size | None = None) -> PassResult:
    """Write every flatten of a `(batch, C, h, w)` map as Flatten(axis=1).

    A Reshape to `[1, K]` bakes the batch, one to `[-1, K]` folds a larger map into the batch;
    Flatten does neither, so a matrix of the wrong size fails behind it.

    Args:
        model: Edited in place.
        size: The training size; what the file declares or records, by default.

    Returns:
        What was replaced, or why nothing was.

    Raises:
        IllegalSizeError: The graph does not take images of `size`.
    """
    graph = Graph.of(model)
    size = size or trained_size(graph)
    if size is None:
        return refused(graph, "the training size is not known")
    traced, edits = traced_shapes(graph, size), Edits()
    for index, node in enumerate(graph.nodes):
        if node.op_type != "Flatten" and is_flatten(graph, index, traced):
            edits.nodes[index] = [
                onnx.helper.make_node(
                    "Flatten", [node.input[0]], list(node.output), name=node.name, axis=1
                )
            ]
    return applied(graph, edits, "no Reshape or Squeeze flattens a map")
