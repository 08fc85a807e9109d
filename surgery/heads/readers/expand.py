"""Expand of one number for each image, which the arithmetic behind it broadcasts anyway → AxisMove.

`torch.nn.functional.normalize` divides by a norm that it has expanded to `(batch, features)`
before. Without the Expand the division is the same (Multidirectional Broadcasting in the ONNX
operator specification), and no shape is left to follow.
"""

from __future__ import annotations

from anysize.surgery.graph import attribute
from anysize.surgery.heads.layers import AxisMove, declined
from anysize.surgery.heads.readers.context import ReadContext

__all__ = ["read_expand"]

_BROADCASTING = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"})


def read_expand(context: ReadContext, index: int) -> AxisMove | None:
    """Read an Expand that can go."""
    graph, node = context.graph, context.graph.node(index)
    if node.op_type != "Expand":
        return None
    layout, output = context.layouts[node.input[0]], node.output[0]
    is_one = layout.channels == 1 and not layout.has_positions
    readers = graph.consumers(output)
    if (
        not is_one
        or graph.is_graph_output(output)
        or not all(_broadcasts(context, reader, output) for reader in readers)
    ):
        shape = context.shapes.get(output)
        got = "an unknown shape" if shape is None else str(list(shape))
        raise declined(
            graph,
            index,
            f"repeats {list(layout.shape)} to {got}, expected what the arithmetic behind it would "
            "broadcast",
        )
    return AxisMove(
        node=index,
        label=graph.label(index),
        inputs=(node.input[0],),
        outputs=(output,),
        before=layout,
        layout=layout,
    )


def _broadcasts(context: ReadContext, reader: int, expanded: str) -> bool:
    """Say whether a node does to one column what it does to the many that were made of it."""
    node = context.graph.node(reader)
    others = [name for name in node.input if name != expanded]
    is_old = attribute(node, "broadcast") is not None  # opset 6: only the second input may be small
    if node.op_type not in _BROADCASTING or is_old or len(others) != 1:
        return False
    return all(
        shapes.get(others[0]) == shapes.get(expanded) is not None
        for shapes in (context.shapes, context.other)
        if shapes
    )
