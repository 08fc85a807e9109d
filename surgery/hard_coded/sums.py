"""What a tensor sums up of the image's cells: how many, and where their number can be read.

A sum over cells, its logarithm and a product of matrices grow with the map; whoever wrote the
network divides by the number of cells, and a trace writes that down as a constant. What keeps its
scale by itself (an average, a maximum, weights of a Softmax) is followed only as an average, which
may be multiplied by the number of cells again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import onnx

from anysize.surgery.graph import Graph, attribute
from anysize.surgery.shapes import SHAPE_KEEPING, ShapeRun

__all__ = ["AVERAGES", "SUMS", "Cells", "Form", "Scale", "Sum", "summed"]

# A sum, the logarithm of one, an average, or something else that is made of such.
Form = Literal["sum", "log", "mean", "other"]

_REDUCTIONS: Mapping[str, Form] = {
    "ReduceL1": "sum",
    "ReduceL2": "other",
    "ReduceLogSum": "log",
    "ReduceLogSumExp": "log",
    "ReduceMean": "mean",
    "ReduceProd": "other",
    "ReduceSum": "sum",
    "ReduceSumSquare": "sum",
}
_GLOBAL: Mapping[str, Form] = {"GlobalAveragePool": "mean", "GlobalLpPool": "other"}
# Operators that sum, and that average.
AVERAGES = frozenset({"GlobalAveragePool", "ReduceMean"})
SUMS = frozenset({*_REDUCTIONS, *_GLOBAL, "CumSum", "Einsum", "MatMul"}) - AVERAGES
# What neither moves nor changes an element's value.
_LAID_OUT = frozenset(
    {"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
_SCALING = frozenset({"Div", "Mul", "Neg"})
# Behind these stand values of another scale: layers that were trained, and what saturates.
_ENDS = frozenset({"BatchNormalization", "Erf", "HardSigmoid", "Sigmoid", "Softmax", "Tanh"})
_CARRYING = (SHAPE_KEEPING - _ENDS) | _LAID_OUT | _SCALING | {
    "Abs", "Add", "Concat", "CumSum", "Exp", "Gather", "GlobalMaxPool", "Log", "Max", "MaxPool",
    "Mean", "Min", "Pow", "Reciprocal", "ReduceMax", "ReduceMin", "Relu", "Slice", "Split", "Sqrt",
    "Sub", "Sum", "TopK", "Where",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cells:
    """One axis that was summed over.

    Attributes:
        tensor: Has the axis.
        axis: Number of the axis.
        length: At the training size.
        does_follow: Whether the length follows the image.
    """

    tensor: str
    axis: int
    length: int
    does_follow: bool


@dataclass(frozen=True, slots=True)
class Sum:
    """What a tensor sums up.

    Attributes:
        form: How.
        cells: The axes, one that follows the image at least.
    """

    form: Form
    cells: tuple[Cells, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """A number that what is summed later was multiplied with, or divided by.

    Attributes:
        index: The node that reads it.
        position: Which of its inputs it is.
    """

    index: int
    position: int


def summed(
    graph: Graph,
    nodes: Sequence[int],
    trained: ShapeRun,
    larger: ShapeRun,
    *,
    ends: Callable[[int, Sum], bool],
    scaled: Callable[[Scale, Sum], None],
) -> None:
    """Follow every sum over cells through the graph.

    Args:
        graph: Not modified.
        nodes: Indices of the nodes to look at, in order.
        trained: What is known at the training size.
        larger: At a size that is larger both ways, where the graph takes one.
        ends: Told of each node that reads a sum, and which; says whether it brings the sum back to
            a scale that does not depend on the number of cells.
        scaled: Told of each number that what is summed was scaled with before, and which sum.
    """
    walk = _Sums(graph, trained, larger)
    for index in nodes:
        node = graph.node(index)
        for scale, of in walk.scales_of(index):
            scaled(scale, of)
        carried = walk.carried(node)
        is_ended = carried is not None and ends(index, carried)
        made = None if is_ended else walk.made(node, carried)
        if made is not None:
            walk.sums.update(dict.fromkeys(filter(None, node.output), made))


class _Sums:
    def __init__(self, graph: Graph, trained: ShapeRun, larger: ShapeRun) -> None:
        self._graph = graph
        self._trained, self._larger = trained, larger
        self.sums: dict[str, Sum] = {}
        self._scales: dict[str, tuple[Scale, ...]] = {}

    def scales_of(self, index: int) -> Iterator[tuple[Scale, Sum]]:
        """Yield what a node sums that was scaled before it did, and remember what it scales."""
        node = self._graph.node(index)
        scales = (scale for name in node.input for scale in self._scales.get(name, ()))
        read = tuple(dict.fromkeys(scales))
        own = self._own(node) if read else None
        if own is not None and own.form == "sum":
            yield from ((scale, own) for scale in read)
        if node.op_type not in _CARRYING | {"Einsum", "MatMul"}:
            return
        if node.op_type in _SCALING:
            positions = [p for p, name in enumerate(node.input) if name in self._trained.values]
            read += tuple(Scale(index, position) for position in positions)
        if read:
            self._scales.update(dict.fromkeys(filter(None, node.output), read))

    def carried(self, node: onnx.NodeProto) -> Sum | None:
        """Return what the node's inputs sum up, taken together."""
        read = [self.sums[name] for name in node.input if name in self.sums]
        if len(read) < 2:
            return read[0] if read else None
        return Sum("other", tuple(dict.fromkeys(cells for one in read for cells in one.cells)))

    def made(self, node: onnx.NodeProto, carried: Sum | None) -> Sum | None:
        """Return what the node's outputs sum up."""
        own = self._own(node)
        if own is not None and carried is not None:
            is_plain = own.form == carried.form == "sum"
            return Sum("sum" if is_plain else "other", (*carried.cells, *own.cells))
        if own is not None or carried is None:
            return own
        op_type = node.op_type
        if op_type in _REDUCTIONS:
            return replace(carried, form="other")
        if op_type not in _CARRYING:
            return None
        is_divisor = op_type == "Div" and node.input[0] not in self.sums
        if op_type in _LAID_OUT or (op_type in _SCALING and not is_divisor):
            return carried
        form: Form = "log" if op_type == "Log" and carried.form == "sum" else "other"
        return None if carried.form == "mean" else replace(carried, form=form)

    def _own(self, node: onnx.NodeProto) -> Sum | None:
        """Return what the node itself sums up."""
        if node.domain not in ("", "ai.onnx") or not node.input:
            return None
        form, axes = self._axes(node)
        cells = [self._cells(name, axis) for name, axis in axes]
        known = tuple(one for one in cells if one is not None)
        if len(known) < len(cells) or not any(one.does_follow for one in known):
            return None
        return Sum(form, known)

    def _cells(self, tensor: str, axis: int) -> Cells | None:
        shape, other = self._trained.shapes.get(tensor), self._larger.shapes.get(tensor)
        if shape is None or other is None or len(other) != len(shape):
            return None
        if tensor in self._trained.values or not -len(shape) <= axis < len(shape):
            return None  # a shape that is computed, no map
        axis %= len(shape)
        return Cells(tensor, axis, shape[axis], shape[axis] != other[axis])

    def _axes(self, node: onnx.NodeProto) -> tuple[Form, list[tuple[str, int]]]:
        data = node.input[0]
        rank = len(self._trained.shapes.get(data, ()))
        if node.op_type in _REDUCTIONS:
            return _REDUCTIONS[node.op_type], [(data, axis) for axis in self._reduced(node, rank)]
        if node.op_type in _GLOBAL:
            return _GLOBAL[node.op_type], [(data, axis) for axis in range(2, rank)]
        if node.op_type == "CumSum":
            axis = self._trained.values.get(node.input[1])
            return "other", [] if axis is None else [(data, int(axis.ravel()[0]))]
        if node.op_type == "MatMul" and rank > 1 and not self._is_average(data):
            return "sum", [(data, rank - 1)]
        if node.op_type == "Einsum":
            return "sum", _contracted(node)
        return "other", []

    def _reduced(self, node: onnx.NodeProto, rank: int) -> Sequence[int]:
        axes = self._graph.integers(node, "axes", 1)
        if axes is None:
            value = self._trained.values.get(node.input[1])
            return [] if value is None else [int(axis) for axis in value.ravel()]
        if not axes and attribute(node, "noop_with_empty_axes", 0):
            return []
        return axes or range(rank)

    def _is_average(self, tensor: str) -> bool:
        """Say whether a matrix has rows of sum 1, so that a product with it is an average."""
        while (index := self._graph.producer(tensor)) is not None:
            node = self._graph.node(index)
            if node.op_type == "Softmax":
                return True
            if node.op_type not in _LAID_OUT | {"Dropout"}:
                return False
            tensor = node.input[0]
        return False


def _contracted(node: onnx.NodeProto) -> list[tuple[str, int]]:
    """List the axes that an Einsum sums over, each once."""
    equation = str(attribute(node, "equation", "")).replace(" ", "")
    terms, _, kept = equation.partition("->")
    if "." in equation or "->" not in equation:
        return []
    found: dict[str, tuple[str, int]] = {}
    for name, term in zip(node.input, terms.split(","), strict=False):
        for axis, letter in enumerate(term):
            if letter not in kept:
                found.setdefault(letter, (name, axis))
    return list(found.values())
