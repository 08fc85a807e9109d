"""The shape of every tensor at an image size, and the sizes at which a graph works."""

from __future__ import annotations

from anysize.surgery.shapes.folding import NodeFolder
from anysize.surgery.shapes.intervals import (
    legal_interval,
    refuse_oversized,
    smallest_size,
    trained_size,
)
from anysize.surgery.shapes.multiply_adds import multiply_adds
from anysize.surgery.shapes.rules import SHAPE_KEEPING, Shape, output_shape
from anysize.surgery.shapes.size_set import Sides, legal_sizes, sides_taken
from anysize.surgery.shapes.walk import (
    IllegalSizeError,
    ShapeRun,
    ShapeStep,
    ShapeWalk,
    infer_shapes,
    shape_walk,
    shapes_at,
)
from anysize.surgery.shapes.windows import POOLING, SlidingWindow, sliding_windows

__all__ = [
    "POOLING",
    "SHAPE_KEEPING",
    "IllegalSizeError",
    "NodeFolder",
    "Shape",
    "ShapeRun",
    "ShapeStep",
    "ShapeWalk",
    "Sides",
    "SlidingWindow",
    "infer_shapes",
    "legal_interval",
    "legal_sizes",
    "multiply_adds",
    "output_shape",
    "refuse_oversized",
    "shape_walk",
    "shapes_at",
    "sides_taken",
    "sliding_windows",
    "smallest_size",
    "trained_size",
]
