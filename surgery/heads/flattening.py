"""Which nodes flatten a feature map, whatever operators spell it.

The test is on shapes and not on spellings: Flatten, and any Reshape (constant, `[0, -1]`,
`[-1, K]`, Shape → Gather → Concat) or Squeeze that turns `(batch, C, h, w)` into
`(batch, C·h·w)`. All of them keep row-major order, so they all are Flatten(axis=1).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from anysize.sizes import Size
from anysize.surgery.graph import Graph, attribute, image_input
from anysize.surgery.shapes import IllegalSizeError, Shape, shapes_at

__all__ = ["TracedShapes", "is_flatten", "is_flatten_spelling", "traced_shapes"]

_SPELLINGS = frozenset({"Flatten", "Reshape", "Squeeze"})
# A batch that no exporter bakes by chance, to tell a free batch from a baked one.
_OTHER_BATCH = 3


@dataclass(frozen=True, slots=True)
class TracedShapes:
    """Shapes at the training size, for the batch that a file declares and for another one.

    Attributes:
        batch: The declared batch, or 1 where it is symbolic.
        shapes: Tensor → shape at `batch`.
        other: Tensor → shape at another batch, as far as the graph takes one.
        other_batch: That batch.
    """

    batch: int
    shapes: Mapping[str, Shape]
    other: Mapping[str, Shape]
    other_batch: int = _OTHER_BATCH


def traced_shapes(graph: Graph, size: Size) -> TracedShapes:
    """Work out all shapes at `size`.

    Raises:
        IllegalSizeError: The graph does not take images of this size.
    """
    declared = image_input(graph.model).type.tensor_type.shape.dim[0].dim_value
    batch = declared if declared > 0 else 1
    shapes = shapes_at(graph, size, batch)
    other: Mapping[str, Shape] = {}
    if declared < 1:
        with contextlib.suppress(IllegalSizeError):
            other = shapes_at(graph, size, _OTHER_BATCH)
    return TracedShapes(batch, shapes, other)


def is_flatten_spelling(node: onnx.NodeProto) -> bool:
    """Say whether the operator is one that flattens a map, given the right shapes."""
    return node.op_type in _SPELLINGS and node.domain in ("", "ai.onnx")


def is_flatten(graph: Graph, index: int, traced: TracedShapes) -> bool:
    """Say whether a node turns `(batch, C, h, w)` into `(batch, C·h·w)` at the training size."""
    node = graph.node(index)
    if not is_flatten_spelling(node):
        return False
    before, after = traced.shapes.get(node.input[0]), traced.shapes.get(node.output[0])
    if not _flattens(before, after):
        return False
    if node.op_type == "Flatten":
        axis = attribute(node, "axis", 1)
        return axis in (1, 1 - len(before or ()))
    other = traced.other.get(node.output[0])
    return other is None or _flattens(traced.other.get(node.input[0]), other)


def _flattens(before: Shape | None, after: Shape | None) -> bool:
    """Compare shapes; axis 0 is the batch, or the count of regions behind a pooling of regions."""
    if before is None or after is None or len(before) != 4:
        return False
    return after == (before[0], math.prod(before[1:]))
