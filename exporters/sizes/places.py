"""What a number of a trace is of the image, and how a graph computes it."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
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
    """A constant that is laid out again and again, and how often along each axis in either trace.

    What is made for a batch, a state of zeros, and what is expanded to it: a learned token, or
    queries whose heads are folded into the batch.
    """

    core: npt.NDArray[Any]
    repeats: tuple[Sides, Sides]

    @property
    def is_broadcast(self) -> bool:
        """Whether each axis is laid out as it is, or has one cell."""
        axes = zip(self.core.shape, *self.repeats, strict=True)
        return all(length == 1 or {*often} == {1} for length, *often in axes)

    @classmethod
    def of(cls, first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Spread | None:
        """Find the one constant that two consist of, along the axes in which they differ."""
        if first.ndim != second.ndim or first.dtype != second.dtype:
            return None
        core = first
        for axis, (length, twin) in enumerate(zip(first.shape, second.shape, strict=True)):
            if length != twin:
                row = core.take([0], axis)
                is_one = np.array_equal(np.broadcast_to(row, core.shape), core)
                core = row if is_one else core.take(range(math.gcd(length, twin)), axis)
        if not core.size:
            return None
        repeats = [
            tuple(a // b for a, b in zip(array.shape, core.shape, strict=True))
            for array in (first, second)
        ]
        is_same = all(
            np.array_equal(np.tile(core, often), array)
            for often, array in zip(repeats, (first, second), strict=True)
        )
        return cls(core, (repeats[0], repeats[1])) if is_same else None


@dataclass(frozen=True, slots=True)
class Place:
    """Axes `start` to `end` of a tensor.

    Attributes:
        tensor: Its name.
        start: The first axis.
        end: The one behind the last.
        scale: Where they are scaled, one length is made from them all, rounded down.
        shift: What is added to that.
        step: Where this is not 0, they are one axis, whose length is rounded up to a multiple.
    """

    tensor: str
    start: int
    end: int
    scale: Fraction | None = None
    step: int = 0
    shift: int = 0

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
        if self.shift:
            product = emitter.node("Add", product, emitter.constant([self.shift]))
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
        over: An axis by whose length the number of cells is divided, whatever the rest.
        is_last: The cells are multiplied by the length of that axis but one before: where the last
            of so many places lies, as far apart as there are cells for each.
        dtype: The number's own type.
        rank: The number of its axes, each of length 1.
        is_exact: One without axes must not have one, which otherwise broadcasts.
    """

    cells: Place
    operators: tuple[str, ...] = ()
    factor: float = 1.0
    _: KW_ONLY
    over: Place | None = None
    is_last: bool = False
    dtype: np.dtype[Any]
    rank: int
    is_exact: bool = False

    def emit(self, emitter: Emitter) -> str:
        """Emit the number, as a tensor of its type."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        is_scaled = self.cells.scale is not None
        value = self.cells.emit(emitter) if is_scaled else self.cells.product(emitter)
        if kind != onnx.TensorProto.INT64:
            value = emitter.node("Cast", value, to=kind)
        if self.over is not None:
            below = emitter.node("Cast", self.over.product(emitter), to=kind)
            if self.is_last:
                one = emitter.constant([1], dtype=self.dtype)
                value = emitter.node("Mul", value, emitter.node("Sub", below, one))
            value = emitter.node("Div", value, below)
        for operator in self.operators:
            if operator == "Decrement":
                value = emitter.node("Sub", value, emitter.constant([1], dtype=self.dtype))
            else:
                value = emitter.node(operator, value)
        if self.factor != 1:
            value = emitter.node("Mul", value, emitter.constant([self.factor], dtype=self.dtype))
        if self.rank > 1:
            value = emitter.node("Reshape", value, emitter.constant([1] * self.rank))
        elif not self.rank and self.is_exact:
            value = emitter.node("Squeeze", value)
        return value
