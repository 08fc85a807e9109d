"""What a number of a trace is of the image, and how a graph computes it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from anysize.surgery.operators import Emitter, axis_length

__all__ = ["Number", "Place", "Sides", "Spread"]

Sides = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """A constant, and the shapes that it is laid out to in either trace."""

    core: npt.NDArray[Any]
    shapes: tuple[Sides, Sides]


@dataclass(frozen=True, slots=True)
class Place:
    """Axes `start` to `end` of a tensor.

    Attributes:
        tensor: Its name.
        start: The first axis.
        end: The one behind the last.
        scale: Where they are scaled, one length is made from them all.
        step: Where this is not 0, they are one axis, whose length is rounded up to a multiple.
    """

    tensor: str
    start: int
    end: int
    scale: Fraction | None = None
    step: int = 0

    def emit(self, emitter: Emitter) -> str:
        """Emit the lengths, as a tensor of rank 1."""
        if self.step:
            return self._rounded_up(emitter)
        if self.scale is None:
            return emitter.node("Shape", self.tensor, start=self.start, end=self.end)
        product = self.product(emitter)
        for op_type, by in (("Mul", self.scale.numerator), ("Div", self.scale.denominator)):
            if by > 1:
                product = emitter.node(op_type, product, emitter.constant([by]))
        return product

    def _rounded_up(self, emitter: Emitter) -> str:
        length, step = self.product(emitter), emitter.constant([self.step])
        further = emitter.node("Add", length, emitter.constant([self.step - 1]))
        return emitter.node("Mul", emitter.node("Div", further, step), step)

    def product(self, emitter: Emitter) -> str:
        """Emit the product of the lengths, as a tensor of rank 1."""
        product = ""
        for axis in range(self.start, self.end):
            length = axis_length(emitter, self.tensor, axis)
            product = emitter.node("Mul", product, length) if product else length
        return product


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is a function of a number of cells.

    Attributes:
        cells: The axes whose lengths multiply to the number of cells.
        operators: What is applied to it.
        factor: What the result is multiplied by.
        dtype: The number's own type.
        rank: The number of its axes, each of length 1.
    """

    cells: Place
    operators: tuple[str, ...]
    factor: float
    dtype: np.dtype[Any]
    rank: int

    def emit(self, emitter: Emitter) -> str:
        """Emit the number, as a tensor of its type; one without axes gets one, which broadcasts."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        value = emitter.node("Cast", self.cells.product(emitter), to=kind)
        for operator in self.operators:
            if operator == "Decrement":
                value = emitter.node("Sub", value, emitter.constant([1], dtype=self.dtype))
            else:
                value = emitter.node(operator, value)
        if self.factor != 1:
            value = emitter.node("Mul", value, emitter.constant([self.factor], dtype=self.dtype))
        if self.rank > 1:
            value = emitter.node("Reshape", value, emitter.constant([1] * self.rank))
        return value
