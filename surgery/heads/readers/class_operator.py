"""Softmax and its like, ArgMax, TopK, and normalisations over the features → ClassOperator."""

from __future__ import annotations

from dataclasses import replace

from anysize.surgery.graph import attribute, opset_version
from anysize.surgery.heads.layers import ClassOperator, declined
from anysize.surgery.heads.layout import Layout
from anysize.surgery.heads.readers.context import ReadContext
from anysize.surgery.heads.readers.pointwise import (
    has_several_positions,
    positions_apart,
    require_one_output,
)

__all__ = ["TAILS", "read_class_operator"]

_SOFTMAX = frozenset({"Hardmax", "LogSoftmax", "Softmax"})
_ARG = frozenset({"ArgMax", "ArgMin"})
# One row of features in, one out, whatever came before: LayerNormalization has scales of its own.
_NORMALISING = frozenset({"LayerNormalization", "LpNormalization", "RMSNormalization"})
TAILS = _SOFTMAX | _ARG | _NORMALISING | {"TopK"}
# Softmax and its like work along one axis from here on; before, they flatten from it.
_SOFTMAX_ALONG_AXIS_OPSET = 13


def read_class_operator(context: ReadContext, index: int) -> ClassOperator | None:
    """Read a node that works on all features of an image together."""
    graph, node = context.graph, context.graph.node(index)
    if node.op_type not in TAILS:
        return None
    layout = context.layouts[node.input[0]]
    is_old = node.op_type in _SOFTMAX and opset_version(graph.model) < _SOFTMAX_ALONG_AXIS_OPSET
    has_scales = node.op_type in _NORMALISING - {"LpNormalization"}
    needs_rows = is_old or has_scales
    axis = attribute(node, "axis", 0 if node.op_type in _ARG else 1 if is_old else -1)
    assert isinstance(axis, int)
    place = axis + len(layout.axes) if axis < 0 else axis
    is_over_classes = _is_over_classes(layout, place, needs_rows=needs_rows)
    if not is_over_classes or (has_scales and place != len(layout.axes) - 1):
        raise declined(graph, index, f"{node.op_type} is along axis {axis}, expected the classes")
    if node.op_type in _NORMALISING:
        require_one_output(graph, index)
    together = layout.axes[place:] if needs_rows else layout.axes[place : place + 1]
    if "".join(together) != "C" and has_several_positions(layout):
        raise declined(graph, index, positions_apart(layout))
    keeps_rank = node.op_type not in _ARG or bool(attribute(node, "keepdims", 1))
    return ClassOperator(
        node=index,
        label=graph.label(index),
        inputs=(node.input[0],),
        outputs=tuple(node.output[:1] if node.op_type in _NORMALISING else node.output),
        layout=_layout_after(context, index, layout, place, keeps_rank=keeps_rank),
        keeps_rank=keeps_rank,
        needs_rows=needs_rows,
    )


def _is_over_classes(layout: Layout, axis: int, *, needs_rows: bool) -> bool:
    if not 0 <= axis < len(layout.axes):
        return False
    if needs_rows:
        before, after = "".join(layout.axes[:axis]), "".join(layout.axes[axis:])
        return "N" in before and "C" in after
    return "C" in layout.axes[axis]


def _layout_after(
    context: ReadContext, index: int, layout: Layout, axis: int, *, keeps_rank: bool
) -> Layout:
    node = context.graph.node(index)
    if node.op_type in _SOFTMAX | _NORMALISING:
        return layout
    if node.op_type == "TopK":
        shape = context.shapes.get(node.output[0])
        count = context.graph.small_constant(node.input[1]) if len(node.input) > 1 else None
        kept = int(count.ravel()[0]) if count is not None else attribute(node, "k", 0)
        if shape is not None:
            kept = shape[axis]
        assert isinstance(kept, int)
        return replace(layout, channels=kept)
    axes = list(layout.axes)
    if keeps_rank:
        axes[axis] = ""
    else:
        del axes[axis]
    return replace(layout, axes=tuple(axes), channels=1)
