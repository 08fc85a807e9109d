"""Compute inside the graph what a static trace wrote down as the shape of something.

A channel shuffle is traced as a Reshape to (2, 2, 58, 28, 28), group normalisation as one back to
the shape of its input, an interpolation "to the size of that map" as a Resize to 28×28. Two traces
at batches and sizes that differ tell the numbers that belong to the network from the ones that
belong to the image: those differ, and a tensor of the graph whose axis has the one number in the
one trace and the other number in the other one is where they come from.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import helper

from anysize.exporters.tracing import DOMAIN, Trace
from anysize.surgery.graph import Edits, Graph
from anysize.surgery.operators import Emitter, axis_length

__all__ = ["free_shapes"]

# Operator → position of the input that is a shape.
_SHAPE_INPUT = {"Expand": 1, "Reshape": 1, "Resize": 3, "Split": 1}
_POOLING = ("AdaptiveAveragePool2d", "AdaptiveMaxPool2d")
_Sides = tuple[int, ...]
# Elements of a constant that is looked at.
_MOST_SPREAD = 1 << 24
# How many neighbouring axes one length may be the product of: batch, heads, height and width.
_MOST_FACTORS = 4


@dataclass(frozen=True, slots=True)
class _Spread:
    """A constant, and the shapes that it is laid out to in either trace."""

    core: npt.NDArray[Any]
    shapes: tuple[_Sides, _Sides]


@dataclass(frozen=True, slots=True)
class _Place:
    """Axes `start` to `end` of a tensor; where they are scaled, one length made from them all."""

    tensor: str
    start: int
    end: int
    scale: Fraction | None = None

    def emit(self, emitter: Emitter) -> str:
        """Emit the lengths, as a tensor of rank 1."""
        if self.scale is None:
            return emitter.node("Shape", self.tensor, start=self.start, end=self.end)
        product = ""
        for axis in range(self.start, self.end):
            length = axis_length(emitter, self.tensor, axis)
            product = emitter.node("Mul", product, length) if product else length
        for op_type, by in (("Mul", self.scale.numerator), ("Div", self.scale.denominator)):
            if by > 1:
                product = emitter.node(op_type, product, emitter.constant([by]))
        return product


def free_shapes(model: onnx.ModelProto, first: Trace, second: Trace) -> None:
    """Replace, in place, shapes that belong to the traced image by ones computed from tensors.

    What cannot be traced back to a tensor stays as it is, and is left for
    `anysize.exporters.sizes.hard_coded` to refuse.

    Args:
        model: Made from `first`; its node and tensor names are still the trace's.
        first: One trace.
        second: Another one, with the same operators, at another batch and size.
    """
    names = {name for node in model.graph.node for name in node.output}
    names.update(value.name for value in model.graph.input)
    twins = _Twins(first.model.graph, second.model.graph, names)
    edits = Edits()
    for index, node in enumerate(model.graph.node):
        spread = twins.spread(node)
        if node.domain != DOMAIN and node.op_type not in _SHAPE_INPUT and not spread:
            continue
        emitter, freed = Emitter(model, node.output[0]), onnx.NodeProto()
        freed.CopyFrom(node)
        if node.domain == DOMAIN:
            _free_placeholder(emitter, freed, twins)
        elif node.op_type in _SHAPE_INPUT:
            _free_shape_input(emitter, freed, twins)
        _free_spread(emitter, freed, spread, twins)
        if freed != node:
            edits.put(index, [*emitter.nodes, freed], emitter.initializers)
    edits.apply(Graph(model))


class _Twins:
    """The tensors of two traces, side by side."""

    def __init__(self, first: ir.Graph, second: ir.Graph, there: Collection[str]) -> None:
        self._there = there  # a normalisation that was folded has left no tensor
        self._nodes = {node.outputs[0].name: node for node in first}
        self._pairs: dict[str, tuple[_Sides, _Sides]] = {}
        self._constants: dict[str, tuple[_Sides, _Sides]] = {}
        self._attributes: dict[str, tuple[_Sides, _Sides]] = {}
        self._spread: dict[tuple[str, int], _Spread] = {}
        for one, other in zip(first.inputs, second.inputs, strict=True):
            self._add(one, other)
        for node, twin in zip(first, second, strict=True):
            for one, other in zip(node.outputs, twin.outputs, strict=True):
                self._add(one, other)
            for place, pair in enumerate(zip(node.inputs, twin.inputs, strict=True)):
                spread = _spread(*pair)
                if spread is not None:
                    self._spread[node.outputs[0].name or "", place] = spread
            position = _SHAPE_INPUT.get(node.op_type)
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

    def shape_input(self, node: onnx.NodeProto) -> tuple[_Sides, _Sides]:
        """Return the shape that a node was given in either trace, or nothing where unknown."""
        return self._constants.get(node.output[0], ((), ()))

    def spread(self, node: onnx.NodeProto) -> dict[int, _Spread]:
        """Return the inputs of a node that are one constant, laid out to different lengths."""
        places = (
            (place, self._spread.get((node.output[0], place))) for place in range(len(node.input))
        )
        return {place: spread for place, spread in places if spread is not None}

    def output_size(self, node: onnx.NodeProto) -> tuple[_Sides, _Sides]:
        """Return the attribute `output_size` of a placeholder in either trace."""
        return self._attributes[node.output[0]]

    def shape(self, tensor: str) -> tuple[_Sides, _Sides]:
        """Return the shape of a tensor in either trace, or nothing where unknown."""
        return self._pairs.get(tensor, ((), ()))

    def find(self, node: onnx.NodeProto, wanted: tuple[_Sides, _Sides]) -> _Place | None:
        """Find neighbouring axes with these lengths, as near before the node as there are any."""
        length = len(wanted[0])
        for tensor in filter(self._there.__contains__, self._before(node)):
            one, other = self.shape(tensor)
            for axis in range(len(one) - length + 1):
                span = slice(axis, axis + length)
                if (one[span], other[span]) == wanted:
                    return _Place(tensor, axis, axis + length)
        return None

    def find_scaled(self, node: onnx.NodeProto, wanted: tuple[int, int]) -> _Place | None:
        """Find axes whose product is a multiple or a part of a length, the fewest first."""
        pairs = [
            (tensor, *self.shape(tensor))
            for tensor in filter(self._there.__contains__, self._before(node))
        ]
        for length in range(1, _MOST_FACTORS + 1):
            for tensor, one, other in pairs:
                for start in range(len(one) - length + 1):
                    end = start + length
                    sides = math.prod(one[start:end]), math.prod(other[start:end])
                    if not all(sides) or sides[0] * wanted[1] != sides[1] * wanted[0]:
                        continue
                    scale = Fraction(wanted[0], sides[0])
                    if 1 in (scale.numerator, scale.denominator):
                        return _Place(tensor, start, end, scale)
        return None

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


def _spread(one: ir.Value | None, other: ir.Value | None) -> _Spread | None:
    """Find the one constant that two are copies of, along the axes in which they differ.

    What is made for a batch, a state of zeros, and what is expanded to it, a learned token.
    """
    tensors = [value.const_value if value is not None else None for value in (one, other)]
    if any(tensor is None or tensor.size > _MOST_SPREAD for tensor in tensors):
        return None
    first, second = (tensor.numpy() for tensor in tensors if tensor is not None)
    if first.shape == second.shape or first.ndim != second.ndim or first.dtype != second.dtype:
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
    return _Spread(cores[0], (first.shape, second.shape)) if is_same else None


def _sides(value: ir.Value) -> _Sides:
    dims = tuple(value.shape or ())
    return tuple(int(d) for d in dims if isinstance(d, int)) if value.shape else ()


def _integers(value: ir.Value | None) -> _Sides:
    constant = None if value is None else value.const_value
    if constant is None or constant.dtype != ir.DataType.INT64 or constant.size > 8:
        return ()
    return tuple(int(entry) for entry in constant.numpy().reshape(-1))


def _free_shape_input(emitter: Emitter, node: onnx.NodeProto, twins: _Twins) -> None:
    one, other = twins.shape_input(node)
    if one == other or len(one) != len(other):
        return
    pieces: list[int | None] = [a if a == b else None for a, b in zip(one, other, strict=True)]
    if node.op_type == "Reshape":
        _copy_axes(node, pieces, (one, other), twins)
    entries = _computed(emitter, node, pieces, (one, other), twins)
    if entries is not None:
        node.input[_SHAPE_INPUT[node.op_type]] = entries


def _free_spread(
    emitter: Emitter, node: onnx.NodeProto, spreads: Mapping[int, _Spread], twins: _Twins
) -> None:
    for place, spread in spreads.items():
        pieces = [a if a == b else None for a, b in zip(*spread.shapes, strict=True)]
        shape = _computed(emitter, node, pieces, spread.shapes, twins)
        if shape is not None:
            core = emitter.constant(spread.core, dtype=spread.core.dtype)
            node.input[place] = emitter.node("Expand", core, shape)


def _copy_axes(
    node: onnx.NodeProto, pieces: list[int | None], wanted: tuple[_Sides, _Sides], twins: _Twins
) -> None:
    """Use what Reshape itself offers: 0 copies the axis, and one -1 is the rest."""
    if 0 in pieces:  # an empty tensor, or a copy that is there already
        return
    kept = [entry for entry in node.attribute if entry.name != "allowzero"]
    del node.attribute[:]
    node.attribute.extend(kept)
    have = twins.shape(node.input[0])
    for axis, piece in enumerate(pieces):
        same = piece is None and axis < len(have[0])
        if same and all(h[axis] == w[axis] for h, w in zip(have, wanted, strict=True)):
            pieces[axis] = 0
    if pieces.count(None) == 1 and -1 not in pieces:
        pieces[pieces.index(None)] = -1


def _computed(
    emitter: Emitter,
    node: onnx.NodeProto,
    pieces: Sequence[int | None],
    wanted: tuple[_Sides, _Sides],
    twins: _Twins,
) -> str | None:
    """Emit a shape, from numbers and from axes of tensors; None where one cannot be found."""
    parts: list[list[int] | _Place] = []
    axis = 0
    while axis < len(pieces):
        end = _run_end(pieces, axis)
        numbers = [piece for piece in pieces[axis:end] if piece is not None]
        if numbers:
            parts.append(numbers)
        else:
            place = None
            while place is None and end > axis:  # the longest run that stands in one tensor
                place = twins.find(node, (wanted[0][axis:end], wanted[1][axis:end]))
                end -= place is None
            if place is None:
                end = axis + 1
                place = twins.find_scaled(node, (wanted[0][axis], wanted[1][axis]))
            if place is None:
                return None
            parts.append(place)
        axis = end
    tensors = [
        part.emit(emitter) if isinstance(part, _Place) else emitter.constant(part) for part in parts
    ]
    return tensors[0] if len(tensors) == 1 else emitter.node("Concat", *tensors, axis=0)


def _run_end(pieces: Sequence[int | None], start: int) -> int:
    """Return where the run of numbers, or of gaps, that begins at `start` ends."""
    end = start + 1
    while end < len(pieces) and (pieces[end] is None) == (pieces[start] is None):
        end += 1
    return end


def _free_placeholder(emitter: Emitter, node: onnx.NodeProto, twins: _Twins) -> None:
    """Write 0 for a pooled axis that keeps its length, and name where a resized one gets its."""
    one, other = twins.output_size(node)
    if one == other:
        return
    freed, lengths = list(one), ["", ""]
    for axis in (0, 1):
        if one[axis] == other[axis]:
            continue
        if node.op_type in _POOLING:
            if not _keeps(twins.shape(node.input[0]), axis + 2, one[axis], other[axis]):
                return
        else:
            place = _side_of_a_map(node, axis, (one, other), twins)
            if place is None:
                return
            lengths[axis] = place.emit(emitter)
        freed[axis] = 0
    if any(lengths):
        node.input.extend(lengths)
    attribute = next(a for a in node.attribute if a.name == "output_size")
    attribute.CopyFrom(helper.make_attribute("output_size", freed))


def _keeps(shape: tuple[_Sides, _Sides], axis: int, one: int, other: int) -> bool:
    return bool(shape[0]) and (shape[0][axis], shape[1][axis]) == (one, other)


def _side_of_a_map(
    node: onnx.NodeProto, axis: int, sizes: tuple[_Sides, _Sides], twins: _Twins
) -> _Place | None:
    """Find where one side of a resized map comes from: a map of that size, or else a side."""
    one, other = sizes
    if one[0] != other[0] and one[1] != other[1]:
        both = twins.find(node, sizes)
        if both is not None:
            return _Place(both.tensor, both.start + axis, both.start + axis + 1)
    return twins.find(node, (one[axis : axis + 1], other[axis : axis + 1]))
