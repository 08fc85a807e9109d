"""Readers of a head's nodes: one for each kind of layer, one spelling a line.

A reader looks at one node and answers with a layer, or with None where the node is none of its
kind; it declines where the node is of its kind in a form that cannot be rewritten.
"""

from __future__ import annotations

from collections.abc import Callable

from anysize.surgery.graph import Graph
from anysize.surgery.heads.constants import is_constant
from anysize.surgery.heads.layers import Layer
from anysize.surgery.heads.readers.axis_move import MOVES, read_axis_move
from anysize.surgery.heads.readers.class_operator import TAILS, read_class_operator
from anysize.surgery.heads.readers.context import ReadContext
from anysize.surgery.heads.readers.expand import read_expand
from anysize.surgery.heads.readers.linear import data_of_linear, read_linear
from anysize.surgery.heads.readers.pointwise import (
    BINARY,
    POINTWISE,
    has_several_positions,
    positions_apart,
    read_pointwise,
)
from anysize.surgery.heads.readers.reduction import REDUCTIONS, read_reduction, reduced_axes
from anysize.surgery.heads.readers.selection import SELECTIONS, read_selection

__all__ = [
    "MOVES",
    "POINTWISE",
    "REDUCTIONS",
    "SELECTIONS",
    "TAILS",
    "ReadContext",
    "data_inputs",
    "has_several_positions",
    "positions_apart",
    "read_layer",
    "reduced_axes",
]

_READERS: tuple[Callable[[ReadContext, int], Layer | None], ...] = (
    read_linear,
    read_axis_move,
    read_expand,
    read_pointwise,
    read_reduction,
    read_selection,
    read_class_operator,
)


def read_layer(context: ReadContext, index: int) -> Layer | None:
    """Read node `index` as a layer of a fully connected head.

    Returns:
        The layer, or None where the node is of no known kind.

    Raises:
        DeclinedError: It is of a known kind in a form that cannot be rewritten.
    """
    if context.graph.node(index).domain not in ("", "ai.onnx"):
        return None
    for reader in _READERS:
        layer = reader(context, index)
        if layer is not None:
            return layer
    return None


def data_inputs(graph: Graph, index: int) -> tuple[str, ...]:
    """Return the inputs of a node of a head that depend on the image.

    Raises:
        DeclinedError: A matrix product has no constant weight.
    """
    node = graph.node(index)
    if node.op_type in ("Gemm", "MatMul"):
        return (data_of_linear(graph, index),)
    if node.op_type in BINARY | {"Concat"}:
        return tuple(dict.fromkeys(name for name in node.input if not is_constant(graph, name)))
    return (node.input[0],)
