"""ReduceL2, ReduceSum and their like over the features of an image → Reduction."""

from __future__ import annotations

from dataclasses import replace

from anysize.surgery.graph import Graph, attribute
from anysize.surgery.heads.layers import Reduction, declined
from anysize.surgery.heads.readers.context import ReadContext
from anysize.surgery.heads.readers.pointwise import positions_apart

__all__ = ["REDUCTIONS", "read_reduction", "reduced_axes"]

REDUCTIONS = frozenset(
    {
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
        "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
    }
)  # fmt: skip


def read_reduction(context: ReadContext, index: int) -> Reduction | None:
    """Read a node that makes one number of all features of an image."""
    graph, node = context.graph, context.graph.node(index)
    if node.op_type not in REDUCTIONS:
        return None
    layout, reduced = context.layouts[node.input[0]], reduced_axes(graph, index)
    rank = len(layout.axes)
    places = {axis + rank if axis < 0 else axis for axis in reduced or ()}
    is_over_features = len(places) == 1 and places <= set(range(rank))
    axis = places.pop() if is_over_features else 0
    if not is_over_features or "C" not in layout.axes[axis] or "N" in layout.axes[axis]:
        where = "all axes" if reduced is None else f"axes {list(reduced)}"
        raise declined(graph, index, f"{node.op_type} is over {where}, expected the features")
    if any(layout.count(letter) != 1 for letter in "HW" if layout.axis_of(letter) is not None):
        raise declined(graph, index, positions_apart(layout))
    keeps_rank = bool(attribute(node, "keepdims", 1))
    axes = [letters for place, letters in enumerate(layout.axes) if keeps_rank or place != axis]
    if not keeps_rank and graph.is_graph_output(node.output[0]):
        raise declined(
            graph, index, f"{node.op_type} hands out {node.output[0]!r} without an axis for the "
            "features, expected keepdims=1",
        )  # fmt: skip
    return Reduction(
        node=index,
        label=graph.label(index),
        inputs=(node.input[0],),
        outputs=(node.output[0],),
        layout=replace(layout, axes=tuple(axes), channels=1),
    )


def reduced_axes(graph: Graph, index: int) -> tuple[int, ...] | None:
    """Return the axes that a reduction is over; None where it is over all, or does not say."""
    return graph.integers(graph.node(index), "axes", 1) or None
