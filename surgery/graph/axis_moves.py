"""Where the axes of one tensor lie in the next, over Transpose, Reshape and others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx

from anysize.surgery.graph.graph import Graph
from anysize.surgery.graph.nodes import attribute
from anysize.surgery.graph.types import inferred

__all__ = ["Axes", "as_transpose", "follow_axes"]

# For each axis of a tensor the one of the source that lies there; None for one that is new.
Axes = tuple[int | None, ...]
_Sides = tuple[int | None, ...]

_DOMAINS = ("", "ai.onnx", "com.microsoft")
# What the output's axes are the axes of the inputs, numbers aside; shapes are broadcast.
_ELEMENTWISE = frozenset(
    {
        *("Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift"),
        *("BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil"),
        *("Celu", "Clip", "Cos", "Cosh", "DequantizeLinear", "Div", "Dropout"),
        *("DynamicQuantizeLinear", "Elu", "Equal", "Erf", "Exp", "Expand", "Floor", "Gelu"),
        *("Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN"),
        *("LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul"),
        *("Neg", "Not", "Or", "PRelu", "Pow", "QLinearAdd", "QLinearMul", "QuantizeLinear"),
        *("Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh"),
        *("Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu"),
        *("Where", "Xor"),
    }
)
# The first input's axes stay, whatever their lengths become; the others are parameters.
_KEEPING = frozenset(
    {
        *("BatchNormalization", "CenterCropPad", "CumSum", "GroupNormalization", "Hardmax"),
        *("ImageScaler", "InstanceNormalization", "LRN", "LayerNormalization", "LogSoftmax"),
        *("LpNormalization", "MeanVarianceNormalization", "Pad", "Resize", "ReverseSequence"),
        *("Slice", "Softmax", "Split", "Tile", "Trilu", "Upsample"),
    }
)


def follow_axes(graph: Graph, index: int, known: Mapping[str, Axes]) -> Axes | None:
    """Return where the axes lie in a node's outputs; None where that cannot be told.

    Args:
        graph: The graph.
        index: The node.
        known: Tensor → where the axes lie in it.
    """
    node = graph.node(index)
    if node.domain not in _DOMAINS:
        return None
    if node.op_type in _ELEMENTWISE:
        return _joined(graph, node, known, is_broadcast=True)
    if node.op_type == "Concat":
        return _joined(graph, node, known, is_broadcast=False)
    axes = known.get(node.input[0])
    if axes is None:
        return None
    if node.op_type in _KEEPING:
        return axes
    if node.op_type.startswith("Reduce"):
        return _reduced(graph, node, axes)
    follow = _FOLLOWED.get(node.op_type)
    return None if follow is None else follow(graph, node, axes)


def as_transpose(before: Sequence[int | None], after: Sequence[int | None]) -> list[int] | None:
    """Say which Transpose a Reshape stands for; None where it is none, or changes nothing.

    Where all that moves is 1 long, exporters write a Reshape for the Transpose between channels
    first and channels last: numbers stay in place, and so they do at every size that leaves these
    sides at 1.

    Args:
        before: The shape that is given; None for a side that is not known.
        after: The shape that is made.

    Returns:
        The permutation.
    """
    if len(before) != 4 or len(after) != 4 or tuple(before) == tuple(after):
        return None
    for perm in ([0, 3, 1, 2], [0, 2, 3, 1]):
        long = [axis for axis in perm if before[axis] != 1]
        if long == sorted(long) and all(
            before[axis] is not None and before[axis] == side
            for axis, side in zip(perm[1:], after[1:], strict=True)
        ):
            return perm
    return None


def _joined(
    graph: Graph, node: onnx.NodeProto, known: Mapping[str, Axes], *, is_broadcast: bool
) -> Axes | None:
    """Lay the inputs' axes upon one another, from the last on; None where they differ."""
    given = [known[name] for name in node.input if name in known]
    rank = max(len(axes) for axes in given)
    if is_broadcast:
        rank = max(rank, *(_rank(graph, name) for name in node.input))
    joined: list[int | None] = [None] * rank
    for axes in given:
        for place, axis in enumerate(axes, rank - len(axes)):
            if axis is None:
                continue
            if joined[place] not in (None, axis):
                return None
            joined[place] = axis
    return tuple(joined)


def _rank(graph: Graph, name: str) -> int:
    """Return the rank of a constant; 0 of anything else, which has no more axes than an image."""
    tensor = graph.constant(name) if name else None
    return 0 if tensor is None else len(tensor.dims)


def _reduced(graph: Graph, node: onnx.NodeProto, axes: Axes) -> Axes | None:
    named = graph.integers(node, "axes", 1)
    if named is None:
        return None
    gone = _counted(named, len(axes)) or set(range(len(axes)))
    if attribute(node, "keepdims", 1):
        return tuple(None if place in gone else axis for place, axis in enumerate(axes))
    return tuple(axis for place, axis in enumerate(axes) if place not in gone)


def _transposed(graph: Graph, node: onnx.NodeProto, axes: Axes) -> Axes | None:
    del graph
    perm = attribute(node, "perm") or list(reversed(range(len(axes))))
    if not isinstance(perm, list) or sorted(perm) != list(range(len(axes))):
        return None
    return tuple(axes[place] for place in perm)


def _gathered(graph: Graph, node: onnx.NodeProto, axes: Axes) -> Axes | None:
    """Let one index drop the axis, and a row of them, computed or not, keep it."""
    axis = attribute(node, "axis", 0)
    indices = graph.constant(node.input[1])
    rank = len(_sides(graph, node.input[1]) if indices is None else indices.dims)
    if not isinstance(axis, int) or rank > 1 or (indices is None and rank == 0):
        return None
    place = axis % len(axes)
    return axes if rank else (*axes[:place], *axes[place + 1 :])


def _squeezed(graph: Graph, node: onnx.NodeProto, axes: Axes) -> Axes | None:
    named = graph.integers(node, "axes", 1)
    if named is None:
        return None
    gone = _counted(named, len(axes))
    if not gone:
        sides = _sides(graph, node.input[0])
        gone = {place for place, side in enumerate(sides) if side == 1}
    return tuple(axis for place, axis in enumerate(axes) if place not in gone)


def _unsqueezed(graph: Graph, node: onnx.NodeProto, axes: Axes) -> Axes | None:
    named = graph.integers(node, "axes", 1)
    if named is None:
        return None
    rank = len(axes) + len(named)
    new, rest = _counted(named, rank), iter(axes)
    return tuple(None if place in new else next(rest, None) for place in range(rank))


def _multiplied(graph: Graph, node: onnx.NodeProto, axes: Axes) -> Axes | None:
    """Follow a matrix of colours: the last axis is another one then, the others stay."""
    weight = graph.constant(node.input[1])
    return (*axes[:-1], None) if weight is not None and len(weight.dims) == 2 else None


def _reshaped(graph: Graph, node: onnx.NodeProto, axes: Axes) -> Axes | None:
    """Follow a Reshape that only moves sides of length 1; any other mixes the axes."""
    before = _sides(graph, node.input[0])
    after = _resolved(_target(graph, node), before) or _sides(graph, node.output[0])
    if len(before) != len(axes) or not after:
        return None
    perm = as_transpose(before, after)
    if perm is not None:
        return tuple(axes[place] for place in perm)
    old = [place for place, side in enumerate(before) if side != 1]
    new = [place for place, side in enumerate(after) if side != 1]
    pairs = list(zip(reversed(old), reversed(new), strict=False))
    if not _are_alike(before, after, pairs, old, new):
        return None
    moved: list[int | None] = [None] * len(after)
    for a, b in pairs:
        moved[b] = axes[a]
    ones_before = [place for place, side in enumerate(before) if side == 1]
    ones_after = [place for place, side in enumerate(after) if side == 1]
    if len(ones_before) == len(ones_after):
        for a, b in zip(ones_before, ones_after, strict=True):
            moved[b] = axes[a]
    return tuple(moved)


def _are_alike(
    before: _Sides,
    after: _Sides,
    pairs: Sequence[tuple[int, int]],
    old: Sequence[int],
    new: Sequence[int],
) -> bool:
    """Say whether sides other than 1 are the same before and after; unknown ones by their order."""
    if len(old) != len(new):  # the batch is built in on one side
        extra = (old if len(old) > len(new) else new)[: abs(len(old) - len(new))]
        return extra == [0] and all(before[a] == after[b] is not None for a, b in pairs)
    if 1 in before:
        return all(None in (before[a], after[b]) or before[a] == after[b] for a, b in pairs)
    return all(a == b == 0 or before[a] == after[b] is not None for a, b in pairs)


def _target(graph: Graph, node: onnx.NodeProto) -> _Sides:
    """Return what a Reshape asks for, -1 and 0 as they stand, None where it is computed."""
    given = graph.integers(node, "shape", 1)
    if given is not None:
        return given
    index = graph.producer(node.input[1])
    while index is not None and graph.node(index).op_type in ("Cast", "Identity"):
        index = graph.producer(graph.node(index).input[0])
    if index is None or graph.node(index).op_type != "Concat":
        return ()
    sides: list[int | None] = []
    for name in graph.node(index).input:
        value = graph.small_constant(name)
        sides += [None] if value is None else [int(side) for side in value.ravel()]
    return tuple(sides)


def _resolved(target: _Sides, before: _Sides) -> _Sides:
    """Return the sides that a Reshape makes, None where one is not known."""
    copied = (*before, *([None] * len(target)))
    sides = [copied[i] if side == 0 else side for i, side in enumerate(target)]
    if -1 in sides:
        place = sides.index(-1)
        others = sides[:place] + sides[place + 1 :]
        sides[place] = _quotient(before, others)
    return tuple(sides)


def _quotient(before: _Sides, others: Sequence[int | None]) -> int | None:
    """Return what is left for -1 where the other sides account for all but one side before."""
    left = [side for side in before if side != 1]
    for side in others:
        if side in left:
            left.remove(side)
        elif side != 1:
            return None
    return left[0] if len(left) == 1 else (None if left else 1)


def _sides(graph: Graph, tensor: str) -> _Sides:
    """Return the lengths of a tensor's axes, as far as known; none where the rank is not."""
    value = inferred(graph).get(tensor)
    if value is None:
        value = next((v for v in graph.model.graph.input if v.name == tensor), None)
    if value is None or not value.type.tensor_type.HasField("shape"):
        return ()
    return tuple(int(dim.dim_value) or None for dim in value.type.tensor_type.shape.dim)


def _counted(axes: Sequence[int], rank: int) -> set[int]:
    return {axis + rank if axis < 0 else axis for axis in axes}


_FOLLOWED: dict[str, Callable[[Graph, onnx.NodeProto, Axes], Axes | None]] = {
    "Flatten": _reshaped,
    "Gather": _gathered,
    "MatMul": _multiplied,
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
}
