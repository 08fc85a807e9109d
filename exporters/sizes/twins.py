"""The tensors of two traces side by side: what a number of one trace is of the image.

Two traces at batches and sizes that differ tell the numbers that belong to the network from the
ones that belong to the image: those differ, and a tensor of the graph whose axis has the one number
in the one trace and the other number in the other one is where they come from.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from anysize.surgery.operators import Emitter, axis_length

__all__ = ["SHAPE_INPUT", "Number", "Place", "Sides", "Spread", "Twins"]

# Operator → position of the input that is a shape.
SHAPE_INPUT = {"Expand": 1, "Reshape": 1, "Resize": 3, "Split": 1}
Sides = tuple[int, ...]
# Elements of a constant that is looked at.
_MOST_SPREAD = 1 << 24
# How many neighbouring axes one length may be the product of: batch, heads, height and width.
_MOST_FACTORS = 4
# What a number can be of a number of cells, but for a factor, and the operators that make it.
_FORMS: tuple[tuple[Callable[[float], float], tuple[str, ...]], ...] = (
    (lambda n: n, ()),
    (lambda n: 1 / n, ("Reciprocal",)),
    (lambda n: n - 1, ("Decrement",)),
    (lambda n: 1 / (n - 1), ("Decrement", "Reciprocal")),
    (math.sqrt, ("Sqrt",)),
    (lambda n: 1 / math.sqrt(n), ("Sqrt", "Reciprocal")),
    (math.log, ("Log",)),
)
# Below, what is one cell less or a logarithm is no sign of anything.
_FEWEST_CELLS = 3
# What computing a number in float32 costs.
_ROUNDING = 2.0**-22


@dataclass(frozen=True, slots=True)
class Spread:
    """A constant, and the shapes that it is laid out to in either trace."""

    core: npt.NDArray[Any]
    shapes: tuple[Sides, Sides]


@dataclass(frozen=True, slots=True)
class Place:
    """Axes `start` to `end` of a tensor; where they are scaled, one length made from them all."""

    tensor: str
    start: int
    end: int
    scale: Fraction | None = None

    def emit(self, emitter: Emitter) -> str:
        """Emit the lengths, as a tensor of rank 1."""
        if self.scale is None:
            return emitter.node("Shape", self.tensor, start=self.start, end=self.end)
        product = self.product(emitter)
        for op_type, by in (("Mul", self.scale.numerator), ("Div", self.scale.denominator)):
            if by > 1:
                product = emitter.node(op_type, product, emitter.constant([by]))
        return product

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


class Twins:
    """The tensors of two traces, side by side."""

    def __init__(self, first: ir.Graph, second: ir.Graph, there: Collection[str]) -> None:
        self._there = there  # a normalisation that was folded has left no tensor
        self._nodes = {node.outputs[0].name: node for node in first}
        self._pairs: dict[str, tuple[Sides, Sides]] = {}
        self._constants: dict[str, tuple[Sides, Sides]] = {}
        self._attributes: dict[str, tuple[Sides, Sides]] = {}
        self._spread: dict[tuple[str, int], Spread] = {}
        self._numbers: dict[tuple[str, int], tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
        for one, other in zip(first.inputs, second.inputs, strict=True):
            self._add(one, other)
        for node, twin in zip(first, second, strict=True):
            for one, other in zip(node.outputs, twin.outputs, strict=True):
                self._add(one, other)
            for place, pair in enumerate(zip(node.inputs, twin.inputs, strict=True)):
                self._add_constants(node.outputs[0].name or "", place, *pair)
            position = SHAPE_INPUT.get(node.op_type)
            if position is not None and len(node.inputs) > position:
                shapes = _integers(node.inputs[position]), _integers(twin.inputs[position])
                if shapes[0] and shapes[1]:
                    self._constants[node.outputs[0].name or ""] = shapes[0], shapes[1]
            if "output_size" in node.attributes:
                sizes = (n.attributes["output_size"].as_ints() for n in (node, twin))
                one_size, other_size = (tuple(size) for size in sizes)
                self._attributes[node.outputs[0].name or ""] = one_size, other_size

    def _add(self, one: ir.Value, other: ir.Value) -> None:
        sides = _sides(one), _sides(other)
        if one.name and sides[0] and len(sides[0]) == len(sides[1]):
            self._pairs[one.name] = sides

    def _add_constants(
        self, name: str, place: int, one: ir.Value | None, other: ir.Value | None
    ) -> None:
        tensors = _constant(one), _constant(other)
        if tensors[0] is None or tensors[1] is None:
            return
        if tensors[0].shape != tensors[1].shape:
            spread = _spread(tensors[0].numpy(), tensors[1].numpy())
            if spread is not None:
                self._spread[name, place] = spread
        elif tensors[0].size == 1:
            numbers = tensors[0].numpy(), tensors[1].numpy()
            if numbers[0].dtype.kind == "f" and numbers[0].item() != numbers[1].item():
                self._numbers[name, place] = numbers

    def shape_input(self, node: onnx.NodeProto) -> tuple[Sides, Sides]:
        """Return the shape that a node was given in either trace, or nothing where unknown."""
        return self._constants.get(node.output[0], ((), ()))

    def spread(self, node: onnx.NodeProto) -> dict[int, Spread]:
        """Return the inputs of a node that are one constant, laid out to different lengths."""
        return {place: self._spread[key] for place, key in _inputs(node) if key in self._spread}

    def numbers(self, node: onnx.NodeProto) -> dict[int, Number]:
        """Return the inputs of a node that are a function of a number of cells."""
        given = {p: self._numbers[key] for p, key in _inputs(node) if key in self._numbers}
        found = {place: self._find_number(node, *pair) for place, pair in given.items()}
        return {place: number for place, number in found.items() if number is not None}

    def output_size(self, node: onnx.NodeProto) -> tuple[Sides, Sides]:
        """Return the attribute `output_size` of a placeholder in either trace."""
        return self._attributes[node.output[0]]

    def shape(self, tensor: str) -> tuple[Sides, Sides]:
        """Return the shape of a tensor in either trace, or nothing where unknown."""
        return self._pairs.get(tensor, ((), ()))

    def find(self, node: onnx.NodeProto, wanted: tuple[Sides, Sides]) -> Place | None:
        """Find neighbouring axes with these lengths, as near before the node as there are any."""
        length = len(wanted[0])
        for tensor in filter(self._there.__contains__, self._before(node)):
            one, other = self.shape(tensor)
            for axis in range(len(one) - length + 1):
                span = slice(axis, axis + length)
                if (one[span], other[span]) == wanted:
                    return Place(tensor, axis, axis + length)
        return None

    def find_scaled(self, node: onnx.NodeProto, wanted: tuple[int, int]) -> Place | None:
        """Find axes whose product is a multiple or a part of a length, the fewest first."""
        for place, one, other in self._products(node):
            if one * wanted[1] == other * wanted[0]:
                scale = Fraction(wanted[0], one)
                if 1 in (scale.numerator, scale.denominator):
                    return replace(place, scale=scale)
        return None

    def _find_number(
        self, node: onnx.NodeProto, first: npt.NDArray[Any], second: npt.NDArray[Any]
    ) -> Number | None:
        """Find what a number is of the product of some axes, the fewest and the nearest first."""
        wanted = first.item(), second.item()
        for place, one, other in self._products(node):
            if one == other or min(one, other) < _FEWEST_CELLS:
                continue
            for form, operators in _FORMS:
                factors = wanted[0] / form(one), wanted[1] / form(other)
                if not math.isclose(*factors, rel_tol=_ROUNDING):
                    continue
                factor = 1.0 if math.isclose(factors[0], 1, rel_tol=_ROUNDING) else factors[0]
                return Number(place, operators, factor, first.dtype, first.ndim)
        return None

    def _products(self, node: onnx.NodeProto) -> Iterator[tuple[Place, int, int]]:
        """Yield neighbouring axes before a node, and what they multiply to in either trace."""
        pairs = [
            (tensor, *self.shape(tensor))
            for tensor in filter(self._there.__contains__, self._before(node))
        ]
        for length in range(1, _MOST_FACTORS + 1):
            for tensor, one, other in pairs:
                for start in range(len(one) - length + 1):
                    end = start + length
                    sides = math.prod(one[start:end]), math.prod(other[start:end])
                    if all(sides):
                        yield Place(tensor, start, end), *sides

    def _before(self, node: onnx.NodeProto) -> Iterator[str]:
        """Yield what a node is computed from, nearest first, then all that stands before it."""
        pending, seen = deque([node.input[0]]), set()
        while pending:
            tensor = pending.popleft()
            if tensor in seen:
                continue
            seen.add(tensor)
            yield tensor
            producer = self._nodes.get(tensor)
            if producer is not None:
                pending += [value.name for value in producer.inputs if value and value.name]
        earlier = []
        for name in self._pairs:
            if name == node.output[0]:
                break
            earlier.append(name)
        yield from (name for name in reversed(earlier) if name not in seen)


def _inputs(node: onnx.NodeProto) -> list[tuple[int, tuple[str, int]]]:
    return [(place, (node.output[0], place)) for place in range(len(node.input))]


def _constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    tensor = None if value is None else value.const_value
    return None if tensor is None or tensor.size > _MOST_SPREAD else tensor


def _spread(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Spread | None:
    """Find the one constant that two are copies of, along the axes in which they differ.

    What is made for a batch, a state of zeros, and what is expanded to it, a learned token.
    """
    if first.ndim != second.ndim or first.dtype != second.dtype:
        return None
    cores = []
    for array in (first, second):
        for axis, (length, twin) in enumerate(zip(first.shape, second.shape, strict=True)):
            if length != twin:
                array = array.take([0], axis)  # noqa: PLW2901
        cores.append(array)
    is_same = np.array_equal(cores[0], cores[1]) and all(
        np.array_equal(np.broadcast_to(core, array.shape), array)
        for core, array in zip(cores, (first, second), strict=True)
    )
    return Spread(cores[0], (first.shape, second.shape)) if is_same else None


def _sides(value: ir.Value) -> Sides:
    dims = tuple(value.shape or ())
    return tuple(int(d) for d in dims if isinstance(d, int)) if value.shape else ()


def _integers(value: ir.Value | None) -> Sides:
    constant = None if value is None else value.const_value
    if constant is None or constant.dtype != ir.DataType.INT64 or constant.size > 8:
        return ()
    return tuple(int(entry) for entry in constant.numpy().reshape(-1))
