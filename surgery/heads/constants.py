"""The constant behind an input of a layer, whatever stands between them.

Exporters hide a weight behind nodes that move its elements (Identity, Transpose, Reshape, Squeeze,
Unsqueeze, Flatten) and behind nodes that change each element by itself (Cast, DequantizeLinear,
QuantizeLinear). The first kind becomes a recipe of turns on the stored tensor; nodes of the second
kind stay, over the stored tensor in its new form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx

from anysize.surgery.graph import Graph, attribute
from anysize.surgery.storage import Permutation

__all__ = ["Constant", "find_constant", "is_constant", "turned"]

_MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_VALUES = frozenset({"Cast", "DequantizeLinear", "QuantizeLinear"})


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant as a node sees it.

    Attributes:
        root: The initializer, or output of the Constant node, that holds the elements.
        name: The tensor that the node reads.
        dims: Dims as the node sees them.
        root_dims: Dims of the root.
        is_shared: Whether something else reads the root, or a tensor between, too.
        turns: How the root's elements are moved until the node sees them; none where the order
            is the same.
        values: Indices of the nodes that change each element by itself, the root's side first.
        scale_axes: For each of them, the axis of `dims` that its scales go along; None where it
            has one scale for all.
    """

    root: str
    name: str
    dims: tuple[int, ...]
    root_dims: tuple[int, ...]
    is_shared: bool
    turns: tuple[Permutation, ...] = ()
    values: tuple[int, ...] = ()
    scale_axes: tuple[int | None, ...] = ()

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    def viewed(self, dims: tuple[int, ...], perm: Sequence[int]) -> Constant:
        """Return the constant looked at as `dims` and permuted; scales keep to their axis or go."""
        axes = tuple(_followed(axis, self.dims, dims, perm) for axis in self.scale_axes)
        seen = tuple(dims[axis] for axis in perm)
        return replace(self, dims=seen, turns=turned(self.turns, dims, perm), scale_axes=axes)


def turned(
    turns: tuple[Permutation, ...], dims: Sequence[int], perm: Sequence[int]
) -> tuple[Permutation, ...]:
    """Add a turn to a recipe, leaving out what does not move elements."""
    dims, perm = tuple(dims), tuple(perm)
    if turns and tuple(turns[-1].dims[axis] for axis in turns[-1].perm) == dims:
        perm = tuple(turns[-1].perm[axis] for axis in perm)
        dims, turns = turns[-1].dims, turns[:-1]
    moving = [axis for axis in perm if dims[axis] != 1]
    return turns if moving == sorted(moving) else (*turns, Permutation(dims, perm))


def is_constant(graph: Graph, name: str) -> bool:
    """Say whether `name` is computed from initializers and Constant nodes by known nodes alone."""
    return _path(graph, name) is not None


def find_constant(graph: Graph, name: str) -> Constant | None:
    """Follow `name` back to a constant; None where it is computed from something else.

    One more spelling is one more operator here: among the moves if it moves elements, among the
    values if it changes each by itself.
    """
    path = _path(graph, name)
    if path is None:
        return None
    root, nodes, tensor, is_shared = path
    dims = tuple(tensor.dims)
    found: Constant | None = Constant(root, name, dims, dims, is_shared)
    for index in reversed(nodes):
        if found is None:
            return None
        node = graph.node(index)
        found = (
            _valued(graph, index, found) if node.op_type in _VALUES else _moved(graph, node, found)
        )
    return found


def _path(graph: Graph, name: str) -> tuple[str, list[int], onnx.TensorProto, bool] | None:
    """Return root, nodes from the reader's side, tensor, and whether anything else reads them."""
    nodes: list[int] = []
    is_shared = False
    for _ in range(len(graph.model.graph.node) + 1):
        readers = graph.consumers(name)
        times = sum(list(graph.node(index).input).count(name) for index in readers)
        is_shared = is_shared or times > 1 or len(readers) > 1 or graph.is_graph_output(name)
        tensor = graph.initializer(name)
        if tensor is not None:
            return name, nodes, tensor, is_shared
        index = graph.producer(name)
        if index is None:
            return None
        node = graph.node(index)
        if node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Constant":
            value = attribute(node, "value")
            return (name, nodes, value, is_shared) if isinstance(value, onnx.TensorProto) else None
        if node.op_type not in _MOVES | _VALUES:
            return None
        nodes.append(index)
        name = node.input[0]
    return None


def _moved(graph: Graph, node: onnx.NodeProto, seen: Constant) -> Constant | None:
    dims = seen.dims
    if node.op_type == "Identity":
        return seen
    if node.op_type == "Transpose":
        perm = attribute(node, "perm", list(range(len(dims)))[::-1])
        assert isinstance(perm, list)
        is_permutation = sorted(perm) == list(range(len(dims)))
        return seen.viewed(dims, perm) if is_permutation else None
    target = _target(graph, node, dims)
    if target is None or math.prod(target) != math.prod(dims):
        return None
    return seen.viewed(target, range(len(target)))


def _target(graph: Graph, node: onnx.NodeProto, dims: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return what a node that keeps the order of elements makes of `dims`."""
    if node.op_type == "Flatten":
        axis = attribute(node, "axis", 1)
        assert isinstance(axis, int)
        axis = axis + len(dims) if axis < 0 else axis
        return math.prod(dims[:axis]), math.prod(dims[axis:])
    numbers = graph.integers(node, "shape" if node.op_type == "Reshape" else "axes", 1)
    if numbers is None:
        return None
    if node.op_type == "Reshape":
        return _resolved(numbers, dims)
    if node.op_type == "Squeeze" and not numbers:
        return tuple(side for side in dims if side != 1)
    rank = len(dims) + (len(numbers) if node.op_type == "Unsqueeze" else 0)
    axes = {axis + rank if axis < 0 else axis for axis in numbers}
    if node.op_type == "Squeeze":
        return tuple(side for axis, side in enumerate(dims) if axis not in axes)
    rest = iter(dims)
    return tuple(1 if axis in axes else next(rest, 1) for axis in range(rank))


def _resolved(target: Sequence[int], dims: tuple[int, ...]) -> tuple[int, ...] | None:
    if any(side == 0 and axis >= len(dims) for axis, side in enumerate(target)):
        return None
    sides = [dims[axis] if side == 0 else side for axis, side in enumerate(target)]
    if sides.count(-1) == 1:
        known = -math.prod(sides)
        if known <= 0:
            return None
        sides[sides.index(-1)] = math.prod(dims) // known
    return tuple(sides)


def _valued(graph: Graph, index: int, seen: Constant) -> Constant | None:
    node = graph.node(index)
    axis: int | None = None
    if node.op_type != "Cast":
        scale = graph.constant(node.input[1])
        if scale is None or attribute(node, "block_size", 0):
            return None
        if math.prod(scale.dims) != 1:
            along = attribute(node, "axis", 1)
            assert isinstance(along, int)
            axis = along + len(seen.dims) if along < 0 else along
            if axis >= len(seen.dims) or list(scale.dims) != [seen.dims[axis]]:
                return None
    return replace(seen, values=(*seen.values, index), scale_axes=(*seen.scale_axes, axis))


def _followed(
    axis: int | None, old: tuple[int, ...], new: tuple[int, ...], perm: Sequence[int]
) -> int | None:
    """Find the axis again after a reshape and a permutation; -1 where the reshape dissolved it."""
    if axis is None or axis < 0:
        return axis
    before = math.prod(old[:axis])
    for place, side in enumerate(new):
        if side == old[axis] and math.prod(new[:place]) == before:
            return list(perm).index(place)
    return -1
