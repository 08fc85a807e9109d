"""Output shapes of the operators whose arithmetic must be PyTorch's, or must be checked.

onnx's own inference rounds small windows towards zero and lets some mismatches pass; the
operators here answer for themselves, all others are asked of onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from anysize.surgery.graph import attribute
from anysize.surgery.shapes.windows import POOLING, sliding_windows

__all__ = ["SHAPE_KEEPING", "Shape", "output_shape"]

Shape = tuple[int, ...]

# One output cell for one input cell, in place.
SHAPE_KEEPING = frozenset(
    {
        "Abs", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Dropout", "Elu", "Erf",
        "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
        "LRN", "LeakyRelu", "Log", "LogSoftmax", "Mish", "Neg", "PRelu", "Reciprocal", "Relu",
        "Round", "Selu", "Sigmoid", "Sign", "Softmax", "Softplus", "Softsign", "Sqrt", "Tanh",
        "ThresholdedRelu",
    }
)  # fmt: skip


def output_shape(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], values: Sequence[np.ndarray | None]
) -> Shape | None:
    """Return the shape of a node's first output, or None where onnx must be asked.

    Args:
        node: The node.
        shapes: Shapes of its inputs; None where unknown or absent.
        values: Values of its small constant inputs; None for all others.

    Raises:
        ValueError: The inputs do not fit the operator; the message says got and expected.
    """
    if not shapes or shapes[0] is None:
        return None
    rule = _RULES.get(node.op_type)
    if rule is None:
        return shapes[0] if node.op_type in SHAPE_KEEPING else None
    try:
        return rule(node, shapes, values)
    except (IndexError, TypeError) as exc:  # too few inputs, an attribute of another type
        text = ", ".join("unknown" if shape is None else _text(shape) for shape in shapes)
        raise ValueError(f"{node.op_type} does not take {text} with its attributes") from exc


def _instance(
    _node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    """Keep the shape; one value has no variance, and PyTorch refuses to normalise it."""
    shape = shapes[0] or ()
    if len(shape) > 2 and math.prod(shape[2:]) == 1:
        raise ValueError(f"input is {_text(shape)}, expected more than one value to normalise")
    return shape


def _slope(
    _node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    """Keep the shape; a slope has one element for each, or is repeated."""
    shape = shapes[0] or ()
    _refuse_growth(shape, shape, shapes[1])
    return shape


def _layer_norm(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    """Keep the shape; scale and bias are of what is normalised together, or are repeated."""
    shape = shapes[0] or ()
    axis = int(attribute(node, "axis", -1))  # type: ignore[call-overload]
    for weight in shapes[1:]:
        _refuse_growth(shape, shape[axis:], weight)
    return shape if len(node.output) == 1 else None


def _refuse_growth(shape: Shape, part: Shape, weight: Shape | None) -> None:
    """Refuse a weight that does not broadcast to a part of an input's shape as it is."""
    try:
        fits = weight is None or np.broadcast_shapes(part, weight) == part
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"input is {_text(shape)}, which a weight of {_text(weight or ())} is not for"
        )


def _recurrent(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    """Refuse first states of another batch; onnx is asked for the shape."""
    axis = 0 if attribute(node, "layout", 0) else 1
    batch = (shapes[0] or ())[axis]
    for state in shapes[5:7]:
        if state is not None and state[axis] != batch:
            raise ValueError(f"got {batch} sequences and first states for {state[axis]}")
    return None


def _pad(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], values: Sequence[np.ndarray | None]
) -> Shape | None:
    """Refuse a reflection or a repetition of more than there is; onnx is asked for the shape."""
    most = {"reflect": -1, "wrap": 0}.get(_mode(node))
    shape = shapes[0] or ()
    given = attribute(node, "pads", attribute(node, "paddings"))
    if given is None and len(values) > 1 and values[1] is not None:
        given = values[1].ravel().tolist()
    axes = values[3].ravel().tolist() if len(values) > 3 and values[3] is not None else None
    axes = list(range(len(shape))) if axes is None else axes
    if most is None or not isinstance(given, list) or len(given) != 2 * len(axes):
        return None
    for place, axis in enumerate(axes):
        pad = max(given[place], given[place + len(axes)])
        if pad > shape[axis] + most:
            raise ValueError(
                f"pads {_text(shape)} by {pad} along axis {axis}, expected at most "
                f"{shape[axis] + most} for mode {_mode(node)}"
            )
    return None


def _mode(node: onnx.NodeProto) -> str:
    return str(attribute(node, "mode", "constant"))


def _windows(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    image, channels, kernel = shapes[0] or (), 0, None
    if node.op_type == "Conv":
        weight = shapes[1]
        if weight is None:
            return None
        group = int(attribute(node, "group", 1))  # type: ignore[call-overload]
        if len(image) != len(weight) or image[1] != weight[1] * group:
            raise ValueError(
                f"input is {_text(image)}, expected {weight[1] * group} channels for a weight of "
                f"{_text(weight)}"
            )
        channels, kernel = weight[0], weight[2:]
    windows = sliding_windows(node, kernel)
    if len(image) != len(windows) + 2:
        raise ValueError(f"input is {_text(image)}, expected {len(windows) + 2} dimensions")
    cells = (w.output_cells(side) for w, side in zip(windows, image[2:], strict=True))
    return (image[0], channels or image[1], *cells)


def _global(
    _node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    image = shapes[0] or ()
    return (*image[:2], *(1 for _ in image[2:]))


def _flatten(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    shape = shapes[0] or ()
    axis = int(attribute(node, "axis", 1))  # type: ignore[call-overload]
    axis = axis + len(shape) if axis < 0 else axis
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _reshape(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], values: Sequence[np.ndarray | None]
) -> Shape | None:
    shape = shapes[0] or ()
    if len(values) < 2:  # opset 1 keeps the target in an attribute
        target = attribute(node, "shape")
    else:
        target = None if values[1] is None else values[1].tolist()
    if not isinstance(target, list):
        return None
    result = [int(side) for side in target]
    if not attribute(node, "allowzero", 0):
        if any(side == 0 and axis >= len(shape) for axis, side in enumerate(result)):
            raise ValueError(f"cannot reshape {_text(shape)} to {_text(target)}")
        result = [shape[axis] if side == 0 else side for axis, side in enumerate(result)]
    elements = math.prod(shape)
    if -1 in result:
        rest = -math.prod(result)
        if rest <= 0 or elements % rest or result.count(-1) > 1:
            raise ValueError(f"cannot reshape {_text(shape)} to {_text(target)}")
        result[result.index(-1)] = elements // rest
    if math.prod(result) != elements:
        raise ValueError(
            f"cannot reshape {_text(shape)} to {_text(target)}: {elements} elements, "
            f"expected {math.prod(result)}"
        )
    return tuple(result)


def _gemm(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    left, right = shapes[0] or (), shapes[1]
    if right is None:
        return None
    if len(left) != 2 or len(right) != 2:
        raise ValueError(f"got {_text(left)} and {_text(right)}, expected two matrices")
    left = left[::-1] if attribute(node, "transA", 0) else left
    right = right[::-1] if attribute(node, "transB", 0) else right
    if left[1] != right[0]:
        raise ValueError(f"input has {left[1]} features, expected {right[0]} for its weight")
    return left[0], right[1]


def _matmul(
    _node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    left, right = shapes[0] or (), shapes[1]
    if right is None or len(left) < 2 or len(right) < 2:
        return None
    if left[-1] != right[-2]:
        raise ValueError(f"input has {left[-1]} features, expected {right[-2]} for its weight")
    try:
        batch = np.broadcast_shapes(left[:-2], right[:-2])
    except ValueError as exc:
        raise ValueError(f"{_text(left)} and {_text(right)} do not broadcast") from exc
    return (*batch, left[-2], right[-1])


def _broadcast(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    if attribute(node, "broadcast") is not None:  # before opset 7: aligned at `axis`
        return shapes[0]
    if any(shape is None for shape in shapes):
        return None
    known = [shape for shape in shapes if shape is not None]
    try:
        return np.broadcast_shapes(*known)
    except ValueError as exc:
        text = " and ".join(_text(shape) for shape in known)
        raise ValueError(f"{text} do not broadcast") from exc


def _expand(
    _node: onnx.NodeProto, shapes: Sequence[Shape | None], values: Sequence[np.ndarray | None]
) -> Shape | None:
    shape, target = shapes[0] or (), values[1] if len(values) > 1 else None
    if target is None:
        return None
    sides = tuple(int(side) for side in target)
    try:
        return np.broadcast_shapes(shape, sides)
    except ValueError as exc:
        raise ValueError(f"cannot expand {_text(shape)} to {_text(sides)}") from exc


def _concat(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    known = [shape for shape in shapes if shape is not None]
    if len(known) != len(shapes):
        return None
    first = known[0]
    axis = int(attribute(node, "axis", 1))  # type: ignore[call-overload]
    axis = axis + len(first) if axis < 0 else axis
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in known}
    if not 0 <= axis < len(first) or len(rest) != 1:
        raise ValueError(f"cannot join {' and '.join(_text(shape) for shape in known)}")
    return (*first[:axis], sum(shape[axis] for shape in known), *first[axis + 1 :])


def _space_to_depth(
    node: onnx.NodeProto, shapes: Sequence[Shape | None], _values: Sequence[np.ndarray | None]
) -> Shape | None:
    """Refuse sides that the blocks do not divide; onnx's own inference rounds them down."""
    shape, block = shapes[0] or (), int(attribute(node, "blocksize", 1))  # type: ignore[call-overload]
    if len(shape) != 4 or any(side % block for side in shape[2:]):
        raise ValueError(f"input is {_text(shape)}, expected sides that are multiples of {block}")
    return shape[0], shape[1] * block**2, shape[2] // block, shape[3] // block


def _text(shape: Sequence[int]) -> str:
    return f"({', '.join(str(side) for side in shape)})"


_Rule = Callable[
    [onnx.NodeProto, Sequence[Shape | None], Sequence[np.ndarray | None]], Shape | None
]
_RULES: dict[str, _Rule] = {
    "Conv": _windows,
    "InstanceNormalization": _instance,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_norm),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _recurrent),
    "PRelu": _slope,
    **dict.fromkeys(POOLING, _windows),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _global),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"), _broadcast),
    "Expand": _expand,
    "Flatten": _flatten,
    "Pad": _pad,
    "Reshape": _reshape,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Concat": _concat,
    "SpaceToDepth": _space_to_depth,
}
