"""Reshape in the place of a Transpose between channels first and last → that Transpose."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from anysize.sizes import Size
from anysize.surgery.graph import Edits, Graph, Model, as_transpose
from anysize.surgery.passes.result import PassResult, applied, refused
from anysize.surgery.shapes import infer_shapes, trained_size

__all__ = ["reshape_to_transpose"]


def reshape_to_transpose(
    model: Model, size: Size | None = None, *, tensors: Sequence[str] = ()
) -> PassResult:
    """Write a Reshape that only moves sides of length 1 as the Transpose that it stands for.

    tf2onnx has it for images of one channel, and for maps of one cell. With numbers for its sides
    it takes one size; the Transpose takes any.

    Args:
        model: Edited in place.
        size: The training size; what the file declares or records, by default.
        tensors: Look only at what these are computed from; everywhere where empty.

    Returns:
        What was replaced, or why nothing was.

    Raises:
        IllegalSizeError: The graph does not take images of `size`.
    """
    graph = Graph.of(model)
    size = size or trained_size(graph)
    if size is None:
        return refused(graph, "the training size is not known")
    reached = graph.upstream(*tensors) if tensors else range(len(graph.nodes))
    reshapes = [index for index in sorted(reached) if graph.node(index).op_type == "Reshape"]
    shapes = infer_shapes(graph, size) if reshapes else {}
    edits = Edits()
    for index in reshapes:
        node = graph.node(index)
        before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
        perm = as_transpose(before, after)
        if perm is not None:
            edits.nodes[index] = [
                onnx.helper.make_node(
                    "Transpose", [node.input[0]], list(node.output), name=node.name, perm=perm
                )
            ]
    return applied(graph, edits, "no Reshape moves sides of length 1 alone")
