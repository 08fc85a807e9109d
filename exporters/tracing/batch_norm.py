"""Batch normalisation: kept whole while tracing, then folded into the layer before it.

With running statistics, batch normalisation is y = (x − mean) / √(variance + ε) · γ + β: a factor
and an addend for each channel. Behind a convolution or a linear layer both go into its weights.
torch.onnx would do that in float32, on a copy of every weight for each trace; here the operator is
translated to a placeholder, and folded once, in float64, rounded at the end. That happens when the
graph is written: until then a folded weight is a formula, and takes no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from onnxscript import opset18

from anysize.errors import ExportError
from anysize.exporters.tracing.initializers import add_initializer
from anysize.exporters.tracing.layer_names import layer_name
from anysize.exporters.tracing.placeholder import is_placeholder, placeholder

__all__ = ["BATCH_NORM", "batch_norm_translations", "fold_batch_norm"]

BATCH_NORM = "BatchNorm"
_WEIGHT, _BIAS, _MEAN, _VARIANCE = 1, 2, 3, 4  # its inputs behind the map
_EPSILON = 1e-5  # the operator's default


_PLACEHOLDER = placeholder(
    BATCH_NORM, {"epsilon": "FLOAT"}, parameters=("weight", "bias", "mean", "variance")
)


def _three(values: Any) -> tuple[Any, Any, Any]:
    # aten returns the statistics of the batch, too; in inference both are empty.
    return values, opset18.Constant(value_floats=[]), opset18.Constant(value_floats=[])


def _running(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> Any:
    del momentum
    return _three(_PLACEHOLDER(x, weight, bias, mean, variance, epsilon=eps))


def _of_the_batch(
    x: Any, weight: Any, bias: Any, training: Any, momentum: float, eps: float
) -> Any:
    del training, momentum
    return _three(_PLACEHOLDER(x, weight, bias, None, None, epsilon=eps))


def batch_norm_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the translations to the placeholder that `fold_batch_norm` removes."""
    aten = torch.ops.aten
    return {
        aten._native_batch_norm_legit_no_training.default: _running,  # noqa: SLF001
        aten._native_batch_norm_legit.no_stats: _of_the_batch,  # noqa: SLF001
    }


@dataclass(frozen=True, slots=True)
class _Affine:
    """What batch normalisation does to each channel, in float64."""

    factor: npt.NDArray[np.float64]
    addend: npt.NDArray[np.float64]


def fold_batch_norm(model: ir.Model) -> int:
    """Fold every batch normalisation into the layer before it, in place.

    Where that layer's output has another reader, or there is no such layer, the node becomes a
    BatchNormalization.

    Args:
        model: A traced graph, with its weights. Their values are not changed: a folded weight is
            computed from them when it is read.

    Returns:
        How many were folded.

    Raises:
        ExportError: A layer normalises by the statistics of the batch, which an answer must not
            depend on.
    """
    graph, folded = model.graph, 0
    for node in list(graph):
        if not is_placeholder(node, BATCH_NORM):
            continue
        if len(node.inputs) <= _VARIANCE or None in node.inputs[_MEAN:]:
            raise ExportError(
                f"layer {layer_name(node) or node.name!r}: normalises by the statistics of the "
                "batch, so that one image's answer depends on the others; keep running statistics "
                "(track_running_stats=True)"
            )
        layer = _layer_before(node)
        if layer is None:
            _standard(graph, node)
            continue
        _fold(graph, layer, _affine(node))
        _take_out(node, layer, graph)
        folded += 1
    return folded


def _layer_before(node: ir.Node) -> ir.Node | None:
    """Return the layer that a normalisation can be folded into."""
    (maps, *_) = node.inputs
    layer = maps.producer() if maps is not None else None
    if maps is None or layer is None or len(maps.uses()) > 1 or maps.is_graph_output():
        return None
    has_axis = layer.op_type in _FOLDED and _FOLDED[layer.op_type](layer) is not None
    constant = (value is None or value.const_value is not None for value in layer.inputs[1:])
    return layer if has_axis and all(constant) else None


def _take_out(node: ir.Node, layer: ir.Node, graph: ir.Graph) -> None:
    """Let the readers of a folded node read the layer; the graph's outputs keep their names."""
    old, new = node.outputs[0], layer.outputs[0]
    name = old.name if old.is_graph_output() else new.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    new.name = name


def _affine(node: ir.Node) -> _Affine:
    _, weight, bias, mean, variance = node.inputs
    epsilon = node.attributes.get_float("epsilon", _EPSILON)
    factor = 1 / np.sqrt(_double(variance) + epsilon)
    if weight is not None:
        factor = factor * _double(weight)
    addend = -_double(mean) * factor
    return _Affine(factor, addend if bias is None else addend + _double(bias))


def _double(value: ir.Value | None) -> npt.NDArray[np.float64]:
    return _tensor(value).numpy().astype(np.float64)


def _tensor(value: ir.Value | None) -> ir.TensorProtocol:
    if value is None or value.const_value is None:
        name = "" if value is None else value.name
        raise ExportError(f"tensor {name!r}: batch normalisation expects a parameter there")
    return value.const_value


def _fold(graph: ir.Graph, layer: ir.Node, affine: _Affine) -> None:
    tensor, axis = _tensor(layer.inputs[1]), _FOLDED[layer.op_type](layer)
    sides = [-1 if place == axis else 1 for place in range(len(tensor.shape))]
    factor, addend, dtype = affine.factor.reshape(sides), affine.addend, tensor.dtype.numpy()
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    if bias is not None:
        addend = addend + _double(bias) * affine.factor
    _put(graph, layer, 2, "bias", ir.tensor(addend.astype(dtype)))

    def product() -> ir.TensorProtocol:
        scaled = np.empty(tensor.shape.numpy(), dtype)  # numpy works in float64 chunk by chunk
        np.multiply(tensor.numpy(), factor, out=scaled, dtype=np.float64, casting="same_kind")
        return ir.tensor(scaled)

    lazy = ir.LazyTensor(product, dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()))
    _put(graph, layer, 1, "weight", lazy)


def _put(graph: ir.Graph, node: ir.Node, place: int, word: str, tensor: ir.TensorProtocol) -> None:
    """Set a parameter of a node, apart from any other node's that it was shared with."""
    own = node.inputs[place] if place < len(node.inputs) else None
    if own is not None and len(own.uses()) == 1:
        tensor.name = own.name
        own.const_value = tensor
        return
    value = add_initializer(graph, f"{node.name}.{word}", tensor)
    node.resize_inputs(max(place + 1, len(node.inputs)))
    node.replace_input_with(place, value)


def _conv(_layer: ir.Node) -> int | None:
    return 0


def _conv_transpose(layer: ir.Node) -> int | None:
    return 1 if layer.attributes.get_int("group", 1) == 1 else None


def _gemm(layer: ir.Node) -> int | None:
    if any(layer.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    return 0 if layer.attributes.get_int("transB", 0) else 1


# Which axis of a layer's weight counts its output channels; None where it cannot be folded.
_FOLDED = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm}


def _standard(graph: ir.Graph, node: ir.Node) -> None:
    """Write the placeholder as ONNX's operator, which has no optional inputs."""
    like = _tensor(node.inputs[_MEAN])
    for place, word, neutral in ((_WEIGHT, "weight", 1.0), (_BIAS, "bias", 0.0)):
        if node.inputs[place] is None:
            array = np.full(like.shape.numpy(), neutral, dtype=like.dtype.numpy())
            _put(graph, node, place, word, ir.tensor(array))
    node.domain, node.op_type = "", "BatchNormalization"
    epsilon = node.attributes.get_float("epsilon", _EPSILON)
    node.attributes.clear()
    node.attributes.add(ir.AttrFloat32("epsilon", epsilon))
