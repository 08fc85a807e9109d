"""A number that a graph may hold on to from its traced size, and what is read where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from anysize.surgery.hard_coded.sums import Cells
from anysize.surgery.shapes import ShapeRun

__all__ = ["Meaning", "Number", "constant", "following", "uniform"]

# What a number can be of the number of cells; all but the last are freed.
Meaning = Literal["count", "less one", "reciprocal", "logarithm", "other"]


@dataclass(frozen=True, slots=True)
class Number:
    """A number that may stem from the traced size.

    Attributes:
        index: The node that reads it.
        position: Which of its inputs it is.
        value: The number.
        words: What it may be, as messages have it.
        meaning: What of the cells' number it is, where that is certain; else `other`.
        cells: The axes whose lengths multiply to the number of cells.
    """

    index: int
    position: int
    value: float
    words: str
    meaning: Meaning = "other"
    cells: tuple[Cells, ...] = ()


def uniform(value: np.ndarray) -> float | None:
    """Return the one number that an array holds; None where it holds several, or none."""
    if not value.size or value.dtype.kind not in "fiu" or not np.all(value == value.ravel()[0]):
        return None
    number = float(value.ravel()[0])
    return number if math.isfinite(number) else None


def constant(name: str, trained: ShapeRun, larger: ShapeRun) -> np.ndarray | None:
    """Return a value that is the same at both sizes."""
    value, other = trained.values.get(name), larger.values.get(name)
    if value is None or other is None or not np.array_equal(value, other):
        return None
    return value


def following(trained: ShapeRun, larger: ShapeRun) -> set[int]:
    """Collect the lengths of all axes that follow the image."""
    return {
        side
        for name, shape in trained.shapes.items()
        for side, other in zip(shape, larger.shapes.get(name, ()), strict=False)
        if side != other and side > 1
    }
