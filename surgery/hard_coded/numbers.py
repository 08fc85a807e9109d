"""Numbers that a graph may hold on to from its traced size, beside sums, in k and in ends.

A constant that equals the number of cells, its root, reciprocal or logarithm, and meets a sum over
just these cells, is either that number or one that happens to be equal; the file does not say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import onnx

from anysize.surgery.graph import Graph, attribute, image_input
from anysize.surgery.hard_coded.laid_out import LAYING_OUT, laid_out
from anysize.surgery.hard_coded.number import Meaning, Number, constant, following, uniform
from anysize.surgery.hard_coded.paddings import filling_pads
from anysize.surgery.hard_coded.sums import AVERAGES, SUMS, Cells, Scale, Sum, summed
from anysize.surgery.shapes import POOLING, ShapeRun

__all__ = ["find_numbers", "suspects"]

_ARITHMETIC = frozenset({"Add", "Div", "Mul", "Pow", "Sub"})
# What is given numbers about an axis.
_GIVEN = LAYING_OUT | {"Gather", "GatherND", "Pad", "Slice", "Tile"}
# Below this many cells, their number is an exponent, or 1 more or less, by chance.
_FEW_CELLS = 9


def suspects(graph: Graph, tensors: Sequence[str] = ()) -> list[int]:
    """List the nodes that may hold on to the traced size by a number; none, where none can.

    Args:
        graph: Not modified.
        tensors: Look only at what these are computed from; at everything where empty.
    """
    nodes = graph.downstream(image_input(graph.model).name)
    if tensors:
        nodes &= set().union(*(graph.upstream(name) for name in tensors))
    kinds = {graph.node(index).op_type for index in nodes}
    may_hold = (
        bool(kinds & (SUMS | _GIVEN))
        or (bool(kinds & AVERAGES) and any(_is_scaled(graph, index) for index in nodes))
        or any(_is_lopsided(graph.node(index)) for index in nodes)
    )
    return sorted(nodes) if may_hold else []


def _is_scaled(graph: Graph, index: int) -> bool:
    node = graph.node(index)
    return node.op_type in _ARITHMETIC and any(
        graph.constant(name) is not None and graph.small_constant(name) is not None
        for name in node.input
    )


def _is_lopsided(node: onnx.NodeProto) -> bool:
    """Say whether a window's own pads differ before and after an axis."""
    pads = attribute(node, "pads")
    if node.op_type not in POOLING | {"Conv"} or not isinstance(pads, list):
        return False
    return pads[: len(pads) // 2] != pads[len(pads) // 2 :]


def find_numbers(
    graph: Graph, nodes: Sequence[int], trained: ShapeRun, larger: ShapeRun
) -> tuple[Number, ...]:
    """Find the numbers that may stem from the traced size.

    Args:
        graph: Not modified.
        nodes: Indices of the nodes to look at, in order.
        trained: What is known at the training size.
        larger: At a size that is larger both ways, where the graph takes one.
    """
    found: list[Number] = []

    def ends(index: int, sum_: Sum) -> bool:
        number = _beside(graph, index, sum_, trained, larger)
        if number is not None:
            found.extend(_unbiased(graph, number, sum_, trained, larger) or [number])
        return number is not None

    def scaled(scale: Scale, sum_: Sum) -> None:
        found.extend(_counted(graph.node(scale.index), scale, sum_, trained, larger))

    summed(graph, nodes, trained, larger, ends=ends, scaled=scaled)
    for index in nodes:
        found += _given(graph, index, trained, larger)
        found += laid_out(graph, index, trained, larger)
    for index, (before, behind), cells in filling_pads(graph, nodes, trained, larger):
        words = f"what {cells} cells lack to {cells + before + behind}"
        found.append(Number(index, 1, max(before, behind, key=abs), words))
    return tuple(sorted(found, key=lambda number: number.index))


def _beside(
    graph: Graph, index: int, sum_: Sum, trained: ShapeRun, larger: ShapeRun
) -> Number | None:
    """Find a constant beside a sum that may be the number of its cells."""
    node = graph.node(index)
    if node.op_type not in _ARITHMETIC or len(node.input) != 2:
        return None
    for position, name in enumerate(node.input):
        value = constant(name, trained, larger)
        number = None if value is None else uniform(value)
        if value is None or number is None:
            continue
        for what, words, cells in _meanings(sum_, node.op_type):
            if _is_equal(number, what, value):
                meaning = _certain(node, position, number, cells, sum_, value)
                return Number(index, position, number, words, meaning, cells)
    return None


def _unbiased(
    graph: Graph, number: Number, sum_: Sum, trained: ShapeRun, larger: ShapeRun
) -> list[Number]:
    """Read an average times the number of cells by one less, as an unbiased variance has it."""
    node, count = graph.node(number.index), math.prod(one.length for one in number.cells)
    readers = graph.consumers(node.output[0])
    is_all = all(one.does_follow or one in number.cells for one in sum_.cells)
    if sum_.form != "mean" or node.op_type != "Mul" or number.value != count or not is_all:
        return []
    if len(readers) != 1 or graph.node(readers[0]).op_type != "Div":
        return []
    divisor = constant(graph.node(readers[0]).input[1], trained, larger)
    if divisor is None or divisor.size != 1 or uniform(divisor) != count - 1:
        return []
    less = Number(readers[0], 1, count - 1, number.words, "less one", number.cells)
    return [replace(number, meaning="count"), less]


def _counted(
    node: onnx.NodeProto, scale: Scale, sum_: Sum, trained: ShapeRun, larger: ShapeRun
) -> Iterator[Number]:
    """Find the number of cells where it scales what is summed only afterwards."""
    value = constant(node.input[scale.position], trained, larger)
    number = None if value is None else uniform(value)
    if value is None or number is None:
        return
    for cells in _groups(sum_):
        count = math.prod(one.length for one in cells)
        if count >= _FEW_CELLS and any(_is_equal(number, n, value) for n in (count, 1 / count)):
            text = "×".join(str(one.length) for one in cells)
            words = f"the number of cells, {text},"
            yield Number(scale.index, scale.position, number, words)
            return


def _is_equal(number: float, expected: float, value: np.ndarray) -> bool:
    """Compare within what computing a number in the constant's type, or in float32, costs."""
    epsilon = 2.0**-10 if value.dtype == np.float16 else 2.0**-23
    return math.isclose(number, expected, rel_tol=2 * epsilon)


def _meanings(sum_: Sum, op_type: str) -> Iterator[tuple[float, str, tuple[Cells, ...]]]:
    """Yield every number that the cells may have left, the number of all of them first."""
    for cells in _groups(sum_):
        count = math.prod(one.length for one in cells)
        text = "×".join(str(one.length) for one in cells)
        yield count, f"the number of cells, {text},", cells
        yield 1 / count, f"1 / the number of cells, {text},", cells
        if sum_.form in ("sum", "log") and count == 1:
            yield 0.0, f"the logarithm of the number of cells, {text},", cells
        if count < _FEW_CELLS and op_type == "Pow":
            continue
        if count >= _FEW_CELLS:
            yield count - 1, f"the number of cells, {text}, less 1,", cells
            yield 1 / (count - 1), f"1 / the number of cells, {text}, less 1,", cells
            yield count / (count - 1), f"a ratio of the number of cells, {text},", cells
        if sum_.form == "mean" or count == 1:
            continue
        for sign in (1, -1):
            yield sign * math.log(count), f"the logarithm of the number of cells, {text},", cells
        yield math.sqrt(count), f"the root of the number of cells, {text},", cells
        yield 1 / math.sqrt(count), f"1 / the root of the number of cells, {text},", cells


def _groups(sum_: Sum) -> Iterator[tuple[Cells, ...]]:
    """Yield the axes whose lengths may have been multiplied; those that follow together first."""
    following = tuple(cells for cells in sum_.cells if cells.does_follow)
    if sum_.form == "mean" and math.prod(cells.length for cells in following) < _FEW_CELLS:
        return
    yield following
    if len(following) < len(sum_.cells):
        yield sum_.cells
    if sum_.form == "mean":
        return
    for count in range(len(following) - 1, 0, -1):
        for some in combinations(following, count):
            if math.prod(cells.length for cells in some) > 1:
                yield some


def _certain(
    node: onnx.NodeProto,
    position: int,
    number: float,
    cells: Sequence[Cells],
    sum_: Sum,
    value: np.ndarray,
) -> Meaning:
    """Say what a number is where only one reading makes sense: an average of all that was summed.

    A sum divided by how many it sums, and the logarithm of one less the logarithm of that.
    """
    is_all = len(cells) in (len(sum_.cells), sum(one.does_follow for one in sum_.cells))
    count = math.prod(one.length for one in cells)
    if not is_all or value.size != 1 or not all(one.does_follow for one in cells):
        return "other"
    is_behind = position == 1
    if sum_.form == "sum" and node.op_type == "Div" and is_behind and number == count:
        return "count"
    if sum_.form == "sum" and node.op_type == "Mul" and _is_equal(number, 1 / count, value):
        return "reciprocal"
    if sum_.form == "log" and (node.op_type == "Add" or (node.op_type == "Sub" and is_behind)):
        sign = -1 if node.op_type == "Add" else 1
        return "logarithm" if _is_equal(sign * number, math.log(count), value) else "other"
    return "other"


def _given(graph: Graph, index: int, trained: ShapeRun, larger: ShapeRun) -> Iterator[Number]:
    """Find the numbers that a node is given about an axis that follows the image."""
    node = graph.node(index)
    if node.domain not in ("", "ai.onnx") or not node.input or node.input[0] in trained.values:
        return
    shape, other = (run.shapes.get(node.input[0], ()) for run in (trained, larger))
    follows = [one != two for one, two in zip(shape, other, strict=False)]
    if node.op_type == "TopK" and len(node.input) > 1:
        k = constant(node.input[1], trained, larger)
        axis = int(attribute(node, "axis", -1))  # type: ignore[call-overload]
        if k is not None and follows and follows[axis] and int(k.ravel()[0]) > 1:
            yield Number(index, 1, int(k.ravel()[0]), f"a part of the {shape[axis]} cells")
    if node.op_type == "Slice" and len(node.input) > 2:
        yield from _ends(node, index, trained, larger)
    if node.op_type in ("Gather", "GatherND"):
        axis = int(attribute(node, "axis" if node.op_type == "Gather" else "batch_dims", 0))  # type: ignore[call-overload]
        place = constant(node.input[1], trained, larger)
        if place is not None and follows[axis : axis + 1] == [True] and place.max(initial=0) > 0:
            yield Number(index, 1, int(place.max()), f"a place among the {shape[axis]} cells")
        elif (
            place is None and follows[axis : axis + 1] == [True] and _is_table(graph, node.input[1])
        ):
            yield Number(index, 1, shape[axis], f"a table of places among the {shape[axis]} cells")
    if node.op_type == "Tile" and len(node.input) > 1:
        repeats = constant(node.input[1], trained, larger)
        sides = following(trained, larger)
        for axis, count in enumerate(() if repeats is None else repeats.ravel()):
            if count > 1 and axis < len(shape) and shape[axis] == 1 and int(count) in sides:
                yield Number(index, 1, int(count), "a side of a map")


def _is_table(graph: Graph, name: str) -> bool:
    """Say whether a constant is too large to be looked at."""
    return graph.constant(name) is not None and graph.small_constant(name) is None


def _ends(
    node: onnx.NodeProto, index: int, trained: ShapeRun, larger: ShapeRun
) -> Iterator[Number]:
    """Find where a Slice begins or ends at a part, or at the end, of what follows the image."""
    shape, other = (run.shapes.get(node.input[0], ()) for run in (trained, larger))
    axes = trained.values.get(node.input[3]) if len(node.input) > 3 else None
    starts, stops = (constant(node.input[place], trained, larger) for place in (1, 2))
    for position, value, others in ((1, starts, stops), (2, stops, starts)):
        if value is None:
            continue
        places = range(value.size) if axes is None else [int(axis) for axis in axes.ravel()]
        for place, (axis, end) in enumerate(zip(places, value.ravel().tolist(), strict=False)):
            if axis >= len(shape) or shape[axis] == other[axis] or end < 2:
                continue
            length = shape[axis]
            is_centred = others is not None and end + int(others.ravel()[place]) == length
            parts = (2,) if position == 1 else (2, 3, 4)
            if is_centred or _is_part(end, length, parts):
                yield Number(index, position, end, f"a part of the {length} cells")


def _is_part(end: int, length: int, parts: Sequence[int]) -> bool:
    """Say whether a place is the end, or as far from it as some of so many parts."""
    is_whole = any(part * end % length == 0 for part in parts) and end <= length
    return is_whole or end in (length // 2, -(-length // 2))
