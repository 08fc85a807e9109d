"""The fully connected head of a graph: found from the outputs, read from the feature map on."""

from __future__ import annotations

from anysize.surgery.heads.constants import Constant
from anysize.surgery.heads.find import AnySizeAlreadyError, Head, find_head, find_heads
from anysize.surgery.heads.flattening import is_flatten, traced_shapes
from anysize.surgery.heads.kept import find_kept_head, find_kept_heads
from anysize.surgery.heads.layers import (
    AxisMove,
    ClassOperator,
    Layer,
    Linear,
    Pointwise,
    Reduction,
    Selection,
    declined,
)
from anysize.surgery.heads.layout import Layout

__all__ = [
    "AnySizeAlreadyError",
    "AxisMove",
    "ClassOperator",
    "Constant",
    "Head",
    "Layer",
    "Layout",
    "Linear",
    "Pointwise",
    "Reduction",
    "Selection",
    "declined",
    "find_head",
    "find_heads",
    "find_kept_head",
    "find_kept_heads",
    "is_flatten",
    "traced_shapes",
]
