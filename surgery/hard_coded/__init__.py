"""Shapes that a graph holds on to from its traced size, and what they mean at every size."""

from __future__ import annotations

from anysize.surgery.hard_coded.meanings import Axis, Piece, grows, lengths
from anysize.surgery.hard_coded.number import Number
from anysize.surgery.hard_coded.numbers import find_numbers, suspects
from anysize.surgery.hard_coded.paddings import Padding, computed_paddings, is_open, paddings
from anysize.surgery.hard_coded.search import Follows, Found, find_hard_coded
from anysize.surgery.hard_coded.trials import SHAPE_INPUT, ShapeMeaning, UnreadableError

__all__ = [
    "SHAPE_INPUT",
    "Axis",
    "Follows",
    "Found",
    "Number",
    "Padding",
    "Piece",
    "ShapeMeaning",
    "UnreadableError",
    "computed_paddings",
    "find_hard_coded",
    "find_numbers",
    "grows",
    "is_open",
    "lengths",
    "paddings",
    "suspects",
]
