"""Canonical forms of the layers behind a flatten; one reader for each, one spelling a line.

A reader looks at one node and answers with a layer, or with None where the node is none of its
kind; it declines where the node is of its kind in a form that cannot be rewritten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import onnx

from anysize.errors import DeclinedError
from anysize.surgery.graph import GraphView, attribute, opset_version
from anysize.surgery.weights import Constant, find_constant

__all__ = ["Layer", "Linear", "Pointwise", "Tail", "read_layer"]

# One number in, one number out, whatever the rank.
_UNARY = frozenset(
    {
        "Abs", "Cast", "Ceil", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu",
        "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal",
        "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Tanh",
        "ThresholdedRelu",
    }
)  # fmt: skip
_BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "PRelu"})
_TAILS = frozenset({"ArgMax", "LogSoftmax", "Softmax"})
# Softmax and LogSoftmax work along one axis from here on; before, they flatten from it.
_SOFTMAX_ALONG_AXIS_OPSET = 13


@dataclass(frozen=True, slots=True)
class Linear:
    """A fully connected layer: `output = alpha · input · weightᵀ + beta · bias`.

    Attributes:
        nodes: Its nodes, the one with the weight first.
        label: The first node's name, for messages.
        data: The input tensor, `(batch, in_features)`.
        output: The output tensor, `(batch, out_features)`.
        weight: The weight; `is_transposed` says that it is `(in, out)` and not `(out, in)`.
        bias: The bias, `out_features` or one element; None where there is none.
    """

    nodes: tuple[int, ...]
    label: str
    data: str
    output: str
    weight: Constant
    in_features: int
    out_features: int
    bias: Constant | None = None
    alpha: float = 1.0
    beta: float = 1.0


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A layer that treats every position alike.

    Attributes:
        node: Its node.
        label: The node's name, for messages.
        data: The tensors it reads that depend on the image.
        output: Its output.
        parameters: Constants of one element for each feature, which broadcast along axis 1.
        is_batch_norm: Whether it is a BatchNormalization, whose parameters stay as they are.
        is_noop: Whether it is a Flatten or Reshape that leaves `(batch, features)` as it is.
    """

    node: int
    label: str
    data: tuple[str, ...]
    output: str
    parameters: tuple[Constant, ...] = ()
    is_batch_norm: bool = False
    is_noop: bool = False


@dataclass(frozen=True, slots=True)
class Tail:
    """A node over the classes that ends the graph: Softmax, LogSoftmax or ArgMax.

    Attributes:
        node: Its node.
        label: The node's name, for messages.
        data: The tensor it reads, `(batch, classes)`.
        output: Its output.
        keeps_classes: Whether the output has the classes still.
        keeps_rank: Whether the output has an axis for them still.
        flattens: Whether its operator flattens from its axis on (Softmax before opset 13).
    """

    node: int
    label: str
    data: str
    output: str
    keeps_classes: bool
    keeps_rank: bool
    flattens: bool


Layer = Linear | Pointwise | Tail


def read_layer(view: GraphView, index: int) -> Layer | None:
    """Read node `index` as a layer of a fully connected head.

    Returns:
        The layer, or None where the node is of no known kind.

    Raises:
        DeclinedError: It is of a known kind in a form that cannot be rewritten.
    """
    if view.node(index).domain not in ("", "ai.onnx"):
        return None
    for reader in _READERS:
        layer = reader(view, index)
        if layer is not None:
            return layer
    return None


def _gemm(view: GraphView, index: int) -> Linear | None:
    node, label = view.node(index), view.label(index)
    if node.op_type != "Gemm":
        return None
    weight = find_constant(view, node.input[1])
    if weight is None:
        raise _declined(view, index, f"weight {node.input[1]!r} is computed, expected a constant")
    if attribute(node, "transA", 0):
        raise _declined(view, index, "transA is 1, expected 0: features must lie along axis 1")
    seen = weight.seen_dims if attribute(node, "transB", 0) else weight.seen_dims[::-1]
    is_transposed = bool(attribute(node, "transB", 0)) == weight.is_transposed
    bias = None
    if len(node.input) > 2 and node.input[2]:
        bias = find_constant(view, node.input[2])
        if bias is None:
            raise _declined(view, index, f"bias {node.input[2]!r} is computed, not constant")
        if not _is_per_feature(bias, seen[0]):
            raise _declined(
                view,
                index,
                f"bias has shape {list(bias.dims)}, expected {seen[0]} elements, one a unit",
            )
    return Linear(
        nodes=(index,),
        label=label,
        data=node.input[0],
        output=node.output[0],
        weight=Constant(weight.root, weight.dims, is_transposed, weight.is_shared),
        in_features=seen[1],
        out_features=seen[0],
        bias=bias,
        alpha=float(attribute(node, "alpha", 1.0)),  # type: ignore[arg-type]
        beta=float(attribute(node, "beta", 1.0)),  # type: ignore[arg-type]
    )


def _matmul(view: GraphView, index: int) -> Linear | None:
    node, label = view.node(index), view.label(index)
    if node.op_type != "MatMul":
        return None
    weight = find_constant(view, node.input[1])
    if weight is None or len(weight.dims) != 2:
        raise _declined(
            view, index, f"second input {node.input[1]!r} is no constant matrix, expected a weight"
        )
    in_features, out_features = weight.seen_dims
    nodes: tuple[int, ...] = (index,)
    output, bias = node.output[0], None
    readers = view.consumers(output)
    if len(readers) == 1 and not view.is_graph_output(output):
        after = view.node(readers[0])
        others = [name for name in after.input if name != output]
        is_add = after.op_type == "Add" and attribute(after, "axis") in (None, 1, -1)
        if is_add and len(others) == 1:
            bias = find_constant(view, others[0])
            if bias is not None and _is_per_feature(bias, out_features):
                nodes, output = (index, readers[0]), after.output[0]
            else:
                bias = None
    return Linear(
        nodes=nodes,
        label=label,
        data=node.input[0],
        output=output,
        weight=Constant(
            weight.root, weight.dims, is_transposed=not weight.is_transposed,
            is_shared=weight.is_shared,
        ),
        in_features=in_features,
        out_features=out_features,
        bias=bias,
    )  # fmt: skip


def _bias_add(view: GraphView, index: int) -> Linear | None:
    """Read an Add as the bias of the MatMul before it, so that walking back meets one layer."""
    node = view.node(index)
    if node.op_type != "Add":
        return None
    for name in node.input:
        producer = view.producer(name)
        if producer is not None and view.node(producer).op_type == "MatMul":
            layer = _matmul(view, producer)
            if layer is not None and index in layer.nodes:
                return layer
    return None


def _unary(view: GraphView, index: int) -> Pointwise | None:
    node = view.node(index)
    if node.op_type not in _UNARY:
        return None
    for output in node.output[1:]:
        if output and (view.consumers(output) or view.is_graph_output(output)):
            raise _declined(view, index, f"its second output {output!r} is used")
    return Pointwise(index, view.label(index), (node.input[0],), node.output[0])


def _batch_norm(view: GraphView, index: int) -> Pointwise | None:
    node = view.node(index)
    if node.op_type != "BatchNormalization":
        return None
    if len([name for name in node.output if name]) > 1 or attribute(node, "training_mode", 0):
        raise _declined(view, index, "is in training mode, expected an inference graph")
    if not attribute(node, "spatial", 1):
        raise _declined(view, index, "normalises every position by itself (spatial is 0)")
    return Pointwise(index, view.label(index), (node.input[0],), node.output[0], is_batch_norm=True)


def _binary(view: GraphView, index: int) -> Pointwise | None:
    node = view.node(index)
    if node.op_type not in _BINARY or attribute(node, "broadcast") is not None:
        return None
    found = {name: find_constant(view, name) for name in node.input}
    data = tuple(dict.fromkeys(name for name, constant in found.items() if constant is None))
    parameters = tuple(constant for constant in found.values() if constant is not None)
    if not data:
        return None
    for constant in parameters:
        features = math.prod(constant.dims)
        if not _is_per_feature(constant, features):
            raise _declined(
                view, index, f"constant {constant.root!r} has shape {list(constant.dims)}, "
                "expected one element or one for each feature",
            )  # fmt: skip
    return Pointwise(index, view.label(index), data, node.output[0], parameters)


def _tail(view: GraphView, index: int) -> Tail | None:
    node = view.node(index)
    if node.op_type not in _TAILS:
        return None
    is_new = opset_version(view.model) >= _SOFTMAX_ALONG_AXIS_OPSET
    is_argmax = node.op_type == "ArgMax"
    axis = attribute(node, "axis", 0 if is_argmax else (-1 if is_new else 1))
    if axis not in (1, -1):
        raise _declined(view, index, f"{node.op_type} is along axis {axis}, expected the classes")
    return Tail(
        node=index,
        label=view.label(index),
        data=node.input[0],
        output=node.output[0],
        keeps_classes=not is_argmax,
        keeps_rank=not is_argmax or bool(attribute(node, "keepdims", 1)),
        flattens=not is_argmax and not is_new,
    )


def _is_per_feature(constant: Constant, features: int) -> bool:
    """Say whether a constant of rank ≤ 2 holds one element, or one for each of `features`."""
    dims = constant.dims
    if math.prod(dims) == 1:
        return len(dims) <= 2
    return not constant.is_transposed and dims in ((features,), (1, features))


def _declined(view: GraphView, index: int, reason: str) -> DeclinedError:
    node: onnx.NodeProto = view.node(index)
    return DeclinedError(f"{view.label(index)}: {reason}", node=node.name)


_READERS: tuple[Callable[[GraphView, int], Layer | None], ...] = (
    _gemm,
    _matmul,
    _bias_add,
    _unary,
    _batch_norm,
    _binary,
    _tail,
)
