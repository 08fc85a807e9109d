"""Activations, arithmetic with constants, BatchNormalization → Pointwise."""

from __future__ import annotations

from collections.abc import Sequence

from anysize.surgery.graph import Graph, attribute
from anysize.surgery.heads.constants import find_constant
from anysize.surgery.heads.layers import Parameter, Pointwise, declined
from anysize.surgery.heads.layout import Layout
from anysize.surgery.heads.readers.alignment import meaning, per_feature
from anysize.surgery.heads.readers.context import ReadContext

__all__ = [
    "BINARY",
    "POINTWISE",
    "has_several_positions",
    "positions_apart",
    "read_pointwise",
    "require_one_output",
]

# One number in, one number out, whatever the rank.
_UNARY = frozenset(
    {
        "Abs", "Cast", "Ceil", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu",
        "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal",
        "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Tanh",
        "ThresholdedRelu",
    }
)  # fmt: skip
_QUANTISING = frozenset({"DequantizeLinear", "QuantizeLinear"})
BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "PRelu"})
POINTWISE = _UNARY | _QUANTISING | BINARY | {"BatchNormalization"}


def read_pointwise(context: ReadContext, index: int) -> Pointwise | None:
    """Read a layer that treats every position alike."""
    node = context.graph.node(index)
    if node.op_type in _UNARY:
        return _unary(context, index)
    if node.op_type in _QUANTISING:
        return _quantising(context, index)
    if node.op_type in BINARY:
        return _binary(context, index)
    return _batch_norm(context, index) if node.op_type == "BatchNormalization" else None


def has_several_positions(layout: Layout) -> bool:
    """Say whether a tensor is a map of more than one cell still."""
    return any(layout.count(letter) != 1 for letter in "HW" if layout.axis_of(letter) is not None)


def positions_apart(layout: Layout) -> str:
    """Say why a layer over all flattened features cannot work at another size."""
    features = layout.count("CHW")
    return (
        f"works on the {features} flattened features, so it tells the positions of the map apart; "
        "only the trained size can do that, which --to resize keeps"
    )


def require_one_output(graph: Graph, index: int) -> None:
    """Decline a node whose masks, means or the like are read."""
    for output in graph.node(index).output[1:]:
        if output and (graph.consumers(output) or graph.is_graph_output(output)):
            raise declined(graph, index, f"its second output {output!r} is used, expected one")


def _unary(context: ReadContext, index: int) -> Pointwise:
    graph, node = context.graph, context.graph.node(index)
    require_one_output(graph, index)
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        training = graph.small_constant(node.input[2])
        if training is None or bool(training.any()):
            raise declined(graph, index, "is in training mode, expected an inference graph")
    return _pointwise(context, index, node.input[:1], context.layouts[node.input[0]])


def _quantising(context: ReadContext, index: int) -> Pointwise:
    graph, node = context.graph, context.graph.node(index)
    scale = find_constant(graph, node.input[1])
    if scale is None or scale.elements != 1:
        raise declined(graph, index, "has more than one scale for an activation, expected one")
    return _pointwise(context, index, node.input[:1], context.layouts[node.input[0]])


def _pointwise(
    context: ReadContext,
    index: int,
    data: Sequence[str],
    layout: Layout,
    parameters: Sequence[Parameter] = (),
) -> Pointwise:
    node = context.graph.node(index)
    return Pointwise(
        node=index,
        label=context.graph.label(index),
        operator=node.op_type,
        inputs=tuple(data),
        outputs=(node.output[0],),
        layout=layout,
        parameters=tuple(parameters),
    )


def _batch_norm(context: ReadContext, index: int) -> Pointwise:
    graph, node = context.graph, context.graph.node(index)
    if len([name for name in node.output if name]) > 1 or attribute(node, "training_mode", 0):
        raise declined(graph, index, "is in training mode, expected an inference graph")
    if not attribute(node, "spatial", 1):
        raise declined(graph, index, "normalises every position by itself (spatial is 0)")
    layout = context.layouts[node.input[0]]
    letters = {letter for letter in "".join(layout.axes[1:2]) if layout.count(letter) != 1}
    if letters - {"C"} or layout.axis_of("N") == 1:
        raise declined(graph, index, positions_apart(layout))
    return _pointwise(context, index, node.input[:1], context.layouts[node.input[0]])


def _binary(context: ReadContext, index: int) -> Pointwise | None:
    graph, node = context.graph, context.graph.node(index)
    found = [find_constant(graph, name) for name in node.input]
    data = tuple(
        dict.fromkeys(n for n, constant in zip(node.input, found, strict=True) if constant is None)
    )
    if not data:
        return None
    layout = max((context.layouts[name] for name in data), key=lambda one: one.channels)
    for name in data:
        if not layout.takes(context.layouts[name]):
            raise declined(
                graph, index, f"joins {data[0]!r} and {data[-1]!r}, whose axes lie differently"
            )
    is_old = attribute(node, "broadcast") is not None
    start = attribute(node, "axis")
    parameters = []
    for position, constant in enumerate(found):
        if constant is None or constant.elements == 1:
            continue
        dims = (layout.channels,) if is_old else (layout.channels, 1, 1)
        place = start if isinstance(start, int) else None
        seen = per_feature(constant, layout, dims, place)
        if seen is None:
            letters = meaning(constant, layout, place) or ""
            if layout.has_positions and set(letters) & set("HW"):
                raise declined(graph, index, positions_apart(layout))
            raise declined(
                graph, index, f"constant {constant.root!r} has shape {list(constant.dims)}, "
                "expected one element or one for each feature",
            )  # fmt: skip
        parameters.append(Parameter(position, seen))
    if any(c is not None and len(c.dims) > max(4, len(layout.axes)) for c in found):
        raise declined(graph, index, f"adds axes to {data[0]!r}, expected none")
    return _pointwise(context, index, data, layout, parameters)
