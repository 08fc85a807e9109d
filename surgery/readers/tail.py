"""Softmax, LogSoftmax, Hardmax, ArgMax, ArgMin and TopK over the classes → Tail."""

from __future__ import annotations

from dataclasses import replace

from anysize.surgery.graph import attribute, opset_version
from anysize.surgery.layers import Tail, declined
from anysize.surgery.layout import Layout
from anysize.surgery.readers.pointwise import positions_apart
from anysize.surgery.readers.sight import Sight

__all__ = ["TAILS", "read_tail"]

_SOFTMAX = frozenset({"Hardmax", "LogSoftmax", "Softmax"})
_ARG = frozenset({"ArgMax", "ArgMin"})
TAILS = _SOFTMAX | _ARG | {"TopK"}
# Softmax and its like work along one axis from here on; before, they flatten from it.
_SOFTMAX_ALONG_AXIS_OPSET = 13


def read_tail(sight: Sight, index: int) -> Tail | None:
    """Read a node that works on all classes of an image together."""
    view, node = sight.view, sight.view.node(index)
    if node.op_type not in TAILS:
        return None
    layout = sight.layouts[node.input[0]]
    flattens = node.op_type in _SOFTMAX and opset_version(view.model) < _SOFTMAX_ALONG_AXIS_OPSET
    axis = attribute(node, "axis", 0 if node.op_type in _ARG else 1 if flattens else -1)
    assert isinstance(axis, int)
    place = axis + len(layout.axes) if axis < 0 else axis
    if not _is_over_classes(layout, place, flattens=flattens):
        raise declined(view, index, f"{node.op_type} is along axis {axis}, expected the classes")
    if any(layout.count(letter) != 1 for letter in "HW" if layout.axis_of(letter) is not None):
        raise declined(view, index, positions_apart(layout))
    keeps_rank = node.op_type not in _ARG or bool(attribute(node, "keepdims", 1))
    return Tail(
        node=index,
        label=view.label(index),
        data=node.input[0],
        outputs=tuple(node.output),
        layout=_layout_after(sight, index, layout, place, keeps_rank=keeps_rank),
        keeps_rank=keeps_rank,
        flattens=flattens,
    )


def _is_over_classes(layout: Layout, axis: int, *, flattens: bool) -> bool:
    if not 0 <= axis < len(layout.axes):
        return False
    if flattens:
        before, after = "".join(layout.axes[:axis]), "".join(layout.axes[axis:])
        return "N" in before and "C" in after
    return "C" in layout.axes[axis]


def _layout_after(
    sight: Sight, index: int, layout: Layout, axis: int, *, keeps_rank: bool
) -> Layout:
    node = sight.view.node(index)
    if node.op_type in _SOFTMAX:
        return layout
    if node.op_type == "TopK":
        shape = sight.shapes.get(node.output[0])
        count = sight.view.small_constant(node.input[1]) if len(node.input) > 1 else None
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
