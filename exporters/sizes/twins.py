"""The tensors of two traces side by side: what a number of one trace is of the image.

Two traces at batches and sizes that differ tell the numbers that belong to the network from the
ones that belong to the image: those differ, and a tensor of the graph whose axis has the one number
in the one trace and the other number in the other one is where they come from.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy.typing as npt
import onnx
import onnx_ir as ir

from anysize.exporters.sizes.places import Number, Place, Sides, Spread

__all__ = ["SHAPE_INPUTS", "Twins"]

# Operator → positions of the inputs that are lengths.
SHAPE_INPUTS = {
    "Expand": (1,),
    "Reshape": (1,),
    "Resize": (3,),
    "Slice": (1, 2),
    "Split": (1,),
    "Tile": (1,),
}
Filling = Mapping[int, tuple[int, int]]
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
# What a whole number may be beside a length: the last place, one beyond it.
_MOST_SHIFT = 1
# Take numbers that have no axes at all.
_EXACT = ("Range",)
# Below, what is one cell less or a logarithm is no sign of anything.
_FEWEST_CELLS = 3
# What computing a number in float32 costs.
_ROUNDING = 2.0**-22


class Twins:
    """The tensors of two traces, side by side."""

    def __init__(self, first: ir.Graph, second: ir.Graph, there: Collection[str]) -> None:
        self._there = there  # a normalisation that was folded has left no tensor
        self._nodes = {node.outputs[0].name: node for node in first}
        inputs = [value.name for value in first.inputs]
        self._is_square = any(map(_is_square, first.inputs, second.inputs))
        self._names = [*inputs, *(value.name for node in first for value in node.outputs)]
        self._pairs: dict[str, tuple[Sides, Sides]] = {}
        self._constants: dict[tuple[str, int], tuple[Sides, Sides]] = {}
        self._attributes: dict[str, tuple[Sides, Sides]] = {}
        self._axes: dict[str, Sides] = {}
        self._spread: dict[tuple[str, int], Spread] = {}
        self._numbers: dict[tuple[str, int], tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
        for one, other in zip(first.inputs, second.inputs, strict=True):
            self._add(one, other)
        for node, twin in zip(first, second, strict=True):
            for one, other in zip(node.outputs, twin.outputs, strict=True):
                self._add(one, other)
            for place, pair in enumerate(zip(node.inputs, twin.inputs, strict=True)):
                self._add_constants(node.outputs[0].name or "", place, *pair)
            for place in SHAPE_INPUTS.get(node.op_type, ()):
                shapes = [_integers(each.inputs[place : place + 1]) for each in (node, twin)]
                if all(shapes):
                    self._constants[node.outputs[0].name or "", place] = _resolved(
                        *shapes, _sides(node.outputs[0]), _sides(twin.outputs[0])
                    )
            if node.op_type == "Slice":
                self._axes[node.outputs[0].name or ""] = _integers(node.inputs[3:4])
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
            spread = Spread.of(tensors[0].numpy(), tensors[1].numpy())
            if spread is not None:
                self._spread[name, place] = spread
        elif tensors[0].size == 1:
            numbers = tensors[0].numpy(), tensors[1].numpy()
            if numbers[0].dtype.kind in "fi" and numbers[0].item() != numbers[1].item():
                self._numbers[name, place] = numbers

    def shape_input(self, node: onnx.NodeProto, place: int) -> tuple[Sides, Sides]:
        """Return the lengths that a node was given in either trace, or nothing where unknown."""
        return self._constants.get((node.output[0], place), ((), ()))

    def differs(self, node: onnx.NodeProto, place: int) -> bool:
        """Say whether a node was given other lengths in the other trace, and as many."""
        one, other = self.shape_input(node, place)
        return one != other and len(one) == len(other)

    def spread(self, node: onnx.NodeProto) -> dict[int, Spread]:
        """Return the inputs of a node that are one constant, laid out to different lengths."""
        return {place: self._spread[key] for place, key in _inputs(node) if key in self._spread}

    def numbers(self, node: onnx.NodeProto) -> dict[int, Number]:
        """Return the inputs of a node that are a function of a number of cells."""
        lengths = SHAPE_INPUTS.get(node.op_type, ())
        keys = [(place, key) for place, key in _inputs(node) if place not in lengths]
        given = {place: self._numbers[key] for place, key in keys if key in self._numbers}
        found = {place: self._find_number(node, *pair) for place, pair in given.items()}
        return {place: number for place, number in found.items() if number is not None}

    def output_size(self, node: onnx.NodeProto) -> tuple[Sides, Sides]:
        """Return the attribute `output_size` of a placeholder in either trace."""
        return self._attributes[node.output[0]]

    def shape(self, tensor: str) -> tuple[Sides, Sides]:
        """Return the shape of a tensor in either trace, or nothing where unknown."""
        return self._pairs.get(tensor, ((), ()))

    def find(
        self, node: onnx.NodeProto, wanted: tuple[Sides, Sides], axis: int = 0
    ) -> Place | None:
        """Find neighbouring axes with these lengths, as near before the node as there are any.

        Of two sides that are as long in both traces the one at `axis` is taken, where it is used;
        where that is cut, or both images are squares, a nearer one is not.
        """
        length, nearest = len(wanted[0]), None
        of = self._axes.get(node.output[0], (axis,))
        is_alike = self._is_square or node.output[0] in self._axes
        for tensor in filter(self._there.__contains__, self._before(node)):
            one, other = self.shape(tensor)
            starts = range(len(one) - length + 1)
            found = [s for s in starts if (one[s : s + length], other[s : s + length]) == wanted]
            if not found:
                continue
            own = [start for start in found if start in of]
            place = Place(tensor, (own or found)[0], (own or found)[0] + length)
            if own or length > 1 or not is_alike:
                return place
            nearest = nearest or place
        return nearest

    def find_split(
        self, node: onnx.NodeProto, wanted: tuple[Sides, Sides], axis: int
    ) -> Place | None:
        """Find which axes of what a node reshapes make one, or that and others that are known."""
        tensor, have = node.input[0], self.shape(node.input[0])
        if tensor not in self._there or min(*wanted[0], *wanted[1]) < 1:
            return None
        for before, behind in _groups(have, wanted):
            if axis not in behind:
                continue
            others = [wanted[0][one] for one in behind if one != axis]
            if any(wanted[0][one] != wanted[1][one] for one in behind if one != axis):
                return None
            known = math.prod(others)
            is_axis = len(before) == known == 1
            scale = None if is_axis else Fraction(1, known)
            return Place(tensor, before.start, before.stop, scale=scale)
        return None

    def find_scaled(self, node: onnx.NodeProto, wanted: tuple[int, int]) -> Place | None:
        """Find axes whose product is a multiple or a part of a length, the fewest first."""
        for place, one, other in self._products(node):
            if one * wanted[1] == other * wanted[0]:
                scale = Fraction(wanted[0], one)
                if 1 in (scale.numerator, scale.denominator):
                    return replace(place, scale=scale)
        return None

    def find_rounded(self, node: onnx.NodeProto, wanted: tuple[int, int]) -> Place | None:
        """Find an axis whose length, rounded up to a multiple of something, is the one wanted."""
        for place, one, other in self._products(node, most=1):
            step = _step((one, other), (wanted[0] - one, wanted[1] - other))
            if step:
                return replace(place, step=step)
        return None

    def find_filling(self, node: onnx.NodeProto, axes: Filling) -> dict[int, Place]:
        """Say of axes that all are filled up to the next multiple of something.

        Args:
            node: Fills its first input.
            axes: Axis → what is added in either trace.
        """
        tensor = node.input[0]
        shapes = self.shape(tensor)
        if tensor not in self._there or not shapes[0]:
            return {}
        lengths = [shape[axis] for axis in axes for shape in shapes]
        step = _step(lengths, [one for pair in axes.values() for one in pair])
        return {a: Place(tensor, a, a + 1, step=step) for a in axes} if step else {}

    def _find_number(
        self, node: onnx.NodeProto, first: npt.NDArray[Any], second: npt.NDArray[Any]
    ) -> Number | None:
        """Find what a number is of the product of some axes, the fewest and the nearest first."""
        wanted = first.item(), second.item()
        is_exact = node.op_type in _EXACT or first.dtype.kind == "i"
        number = partial(Number, dtype=first.dtype, rank=first.ndim, is_exact=is_exact)
        if all(float(one).is_integer() for one in wanted):
            length = self._find_length(node, (int(wanted[0]), int(wanted[1])))
            if length is not None:
                return number(length)
        if first.dtype.kind == "i":
            return None
        for place, one, other in self._products(node):
            if one == other or min(one, other) < _FEWEST_CELLS:
                continue
            for form, operators in _FORMS:
                factors = wanted[0] / form(one), wanted[1] / form(other)
                if not math.isclose(*factors, rel_tol=_ROUNDING):
                    continue
                factor = 1.0 if math.isclose(factors[0], 1, rel_tol=_ROUNDING) else factors[0]
                return number(place, operators, factor)
        return self._find_ratio(node, wanted, number)

    def _find_ratio(
        self, node: onnx.NodeProto, wanted: tuple[float, float], number: Callable[..., Number]
    ) -> Number | None:
        """Find two axes of which a number is the ratio, or that times one less than the second."""
        axes: dict[Sides, Place] = {}
        for place, one, other in self._products(node, most=1):
            if one != other:
                axes.setdefault((one, other), place)
        for (above, below), is_last in itertools.product(itertools.permutations(axes, 2), (0, 1)):
            found = (a / b * (b - 1 if is_last else 1) for a, b in zip(above, below, strict=True))
            if all(
                math.isclose(*pair, rel_tol=_ROUNDING) for pair in zip(found, wanted, strict=True)
            ):
                return number(axes[above], over=axes[below], is_last=bool(is_last))
        return None

    def _find_length(self, node: onnx.NodeProto, wanted: tuple[int, int]) -> Place | None:
        """Find an axis, or a multiple, a part or a neighbour of one, that is a whole number."""
        place = self.find(node, ((wanted[0],), (wanted[1],))) or self.find_scaled(node, wanted)
        if place is not None:
            return place
        for place, one, other in self._products(node, most=1):
            shift = wanted[0] - one
            if shift == wanted[1] - other and abs(shift) <= _MOST_SHIFT:
                return replace(place, scale=Fraction(1), shift=shift)
        for place, one, other in self._products(node, most=1):
            part = one // wanted[0] if wanted[0] > 0 else 0
            if part > 1 and (one // part, other // part) == wanted:
                return replace(place, scale=Fraction(1, part))
        return None

    def _products(
        self, node: onnx.NodeProto, most: int = _MOST_FACTORS
    ) -> Iterator[tuple[Place, int, int]]:
        """Yield neighbouring axes before a node, and what they multiply to in either trace."""
        pairs = [
            (tensor, *self.shape(tensor))
            for tensor in filter(self._there.__contains__, self._before(node))
        ]
        for length in range(1, most + 1):
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
        earlier = itertools.takewhile(node.output[0].__ne__, self._names)
        known = [name for name in earlier if name in self._pairs and name not in seen]
        yield from reversed(known)


def _groups(
    have: tuple[Sides, Sides], wanted: tuple[Sides, Sides]
) -> Iterator[tuple[range, range]]:
    """Yield the least runs of axes that have as many cells, in both traces, before and behind."""
    starts, ends = [0, 0], [0, 0]
    shapes = have, wanted
    while all(end < len(shape[0]) for end, shape in zip(ends, shapes, strict=True)):
        ends = [end + 1 for end in ends]
        while True:
            cells = [
                tuple(math.prod(sides[start:end]) for sides in shape)
                for shape, start, end in zip(shapes, starts, ends, strict=True)
            ]
            if cells[0] == cells[1]:
                break
            fewer = int(cells[1] < cells[0])
            if ends[fewer] == len(shapes[fewer][0]):
                return
            ends[fewer] += 1
        yield range(starts[0], ends[0]), range(starts[1], ends[1])
        starts = [*ends]


def _inputs(node: onnx.NodeProto) -> list[tuple[int, tuple[str, int]]]:
    return [(place, (node.output[0], place)) for place in range(len(node.input))]


def _constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    tensor = None if value is None else value.const_value
    return None if tensor is None or tensor.size > _MOST_SPREAD else tensor


def _sides(value: ir.Value) -> Sides:
    dims = tuple(value.shape or ())
    return tuple(int(d) for d in dims if isinstance(d, int)) if value.shape else ()


def _resolved(one: Sides, other: Sides, *made: Sides) -> tuple[Sides, Sides]:
    """Write a length for a -1 that the other trace does not have."""
    if len(one) != len(other) or [a == -1 for a in one] == [b == -1 for b in other]:
        return one, other
    if not all(len(sides) == len(one) for sides in made):
        return one, other
    return made[0], made[1]


def _is_square(*images: ir.Value) -> bool:
    """Say whether what is given is an image of two equal sides in both traces."""
    sides = [_sides(image)[2:] for image in images]
    return all(len(each) == 2 and each[0] == each[1] for each in sides) and sides[0] != sides[1]


def _step(lengths: Sequence[int], missing: Sequence[int]) -> int:
    """Return the least step of whose multiples lengths lack so much; 0 where there is none."""
    most = max(missing)
    if min(missing) < 0 or not most:
        return 0
    common = math.gcd(*map(sum, zip(lengths, missing, strict=True)))
    return next((step for step in range(most + 1, common + 1) if common % step == 0), 0)


def _integers(values: Sequence[ir.Value | None]) -> Sides:
    constant = values[0].const_value if values and values[0] is not None else None
    if constant is None or constant.dtype != ir.DataType.INT64 or constant.size > 8:
        return ()
    return tuple(int(entry) for entry in constant.numpy().reshape(-1))
