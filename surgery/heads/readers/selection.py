"""Slice, Split, Gather and Concat over the features of an image → Selection."""

from __future__ import annotations

from dataclasses import replace

from anysize.surgery.graph import Graph, attribute
from anysize.surgery.heads.constants import is_constant
from anysize.surgery.heads.layers import Selection, declined
from anysize.surgery.heads.readers.context import ReadContext
from anysize.surgery.heads.readers.pointwise import positions_apart

__all__ = ["SELECTIONS", "read_selection"]

SELECTIONS = frozenset({"Concat", "Gather", "Slice", "Split"})


def read_selection(context: ReadContext, index: int) -> Selection | None:
    """Read a node that takes some features, or puts those of several tensors side by side."""
    graph, node = context.graph, context.graph.node(index)
    if node.op_type not in SELECTIONS:
        return None
    data = tuple(node.input) if node.op_type == "Concat" else (node.input[0],)
    others = [name for name in node.input if name and name not in data]
    if not all(is_constant(graph, name) for name in others) or any(
        name not in context.layouts for name in data
    ):
        raise declined(graph, index, f"{node.op_type} reads what is computed, expected constants")
    layouts = [context.layouts[name] for name in data]
    layout, axis = layouts[0], _axis(graph, index, len(layouts[0].axes))
    is_over_features = axis is not None and 0 <= axis < len(layout.axes)
    if axis is None or not is_over_features or layout.axes[axis] not in ("C", "CHW"):
        raise declined(graph, index, f"{node.op_type} is along axis {axis}, expected the features")
    if any(one.axes != layout.axes for one in layouts):
        raise declined(
            graph, index, f"joins {data[0]!r} and {data[-1]!r}, whose axes lie differently"
        )
    for one in layouts:
        if any(one.count(letter) != 1 for letter in "HW" if one.axis_of(letter) is not None):
            raise declined(graph, index, positions_apart(one))
    shapes = [context.shapes.get(name) or () for name in node.output]
    if any(len(shape) != len(layout.axes) for shape in shapes):
        raise declined(graph, index, f"{node.op_type} makes a shape that cannot be followed")
    return Selection(
        node=index,
        label=graph.label(index),
        inputs=data,
        outputs=tuple(node.output),
        layout=replace(layout, channels=shapes[0][axis]),
        channels=tuple(shape[axis] for shape in shapes),
    )


def _axis(graph: Graph, index: int, rank: int) -> int | None:
    """Return the one axis that a node works along; None where it says several, or none."""
    node = graph.node(index)
    axes = (
        graph.integers(node, "axes", 3)
        if node.op_type == "Slice"
        else (attribute(node, "axis", 0),)
    )
    if axes is None or len(axes) != 1 or not isinstance(axes[0], int):
        return None
    return axes[0] + rank if axes[0] < 0 else axes[0]
