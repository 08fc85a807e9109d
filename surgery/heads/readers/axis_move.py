"""Flatten, Reshape, Squeeze, Unsqueeze and Transpose → AxisMove."""

from __future__ import annotations

from anysize.surgery.graph import as_transpose, attribute
from anysize.surgery.heads.layers import AxisMove, declined
from anysize.surgery.heads.layout import Layout
from anysize.surgery.heads.readers.context import ReadContext

__all__ = ["MOVES", "read_axis_move"]

MOVES = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def read_axis_move(context: ReadContext, index: int) -> AxisMove | None:
    """Read a node that moves axes about, and work out where they are afterwards."""
    graph, node = context.graph, context.graph.node(index)
    if node.op_type not in MOVES:
        return None
    before = context.layouts[node.input[0]]
    shape, other = context.shapes.get(node.output[0]), context.other.get(node.output[0])
    after = _after(context, index, before)
    is_followed = after is not None and (shape is None or after.shape == shape)
    if after is None or not is_followed or not _keeps_batch(after, other, context.other_batch):
        got = "an unknown shape" if shape is None else str(list(shape))
        raise declined(
            graph,
            index,
            f"{node.op_type} makes {got} of {list(before.shape)}, expected the features of an "
            "image to stay together",
        )
    return AxisMove(
        node=index,
        label=graph.label(index),
        inputs=(node.input[0],),
        outputs=(node.output[0],),
        before=before,
        layout=after,
    )


def _after(context: ReadContext, index: int, before: Layout) -> Layout | None:
    node = context.graph.node(index)
    if node.op_type == "Transpose":
        perm = attribute(node, "perm", list(range(len(before.axes)))[::-1])
        return before.transposed(perm) if isinstance(perm, list) else None
    if node.op_type in ("Squeeze", "Unsqueeze"):
        axes = context.graph.integers(node, "axes", 1)
        if axes is None:
            return None
        if node.op_type == "Squeeze":
            return before.squeezed(axes or None)
        return before.unsqueezed(axes) if axes else None
    shape = context.shapes.get(node.output[0])
    if shape is None:
        return None
    perm = as_transpose(before.shape, shape) if node.op_type == "Reshape" else None
    return before.reshaped(shape) if perm is None else before.transposed(perm)


def _keeps_batch(after: Layout, other: tuple[int, ...] | None, batch: int) -> bool:
    """Say whether another batch ends up on the axis that we take for the batch."""
    axis = after.axis_of("N")
    if axis is None or other is None:
        return axis is not None
    expected = list(after.shape)
    expected[axis] = expected[axis] // after.batch * batch
    return tuple(expected) == other
