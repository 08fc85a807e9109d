"""Shapes that a graph holds on to from its traced size, and what they mean at every size."""

from __future__ import annotations

from anysize.surgery.hard_coded.meanings import Axis, Piece, grows, lengths
from anysize.surgery.hard_coded.search import Follows, Found, find_baked
from anysize.surgery.hard_coded.trials import SHAPE_INPUT, Reading

__all__ = [
    "SHAPE_INPUT",
    "Axis",
    "Follows",
    "Found",
    "Piece",
    "Reading",
    "find_baked",
    "grows",
    "lengths",
]
