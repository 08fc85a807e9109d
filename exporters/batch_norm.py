"""Batch normalisation: kept whole while tracing, then folded into the layer before it.

With running statistics, batch normalisation is y = (x − mean) / √(variance + ε) · γ + β: a factor
and an addend for each channel. Behind a convolution or a linear layer both go into its weights.
torch.onnx would do that in float32, on a copy of every weight for each trace; here the operator is
translated to a placeholder, and folded once, in float64, rounded at the end.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxscript
import torch
from onnx import helper, numpy_helper
from onnxscript import opset18

from anysize.errors import ExportError
from anysize.surgery.graph import attribute
from anysize.surgery.operators.emitter import Emitter

__all__ = ["BATCH_NORM", "batch_norm_translations", "fold_batch_norm"]

_DOMAIN, BATCH_NORM = "anysize.lowering", "BatchNorm"
_EPSILON = 1e-5  # the operator's default


def _placeholder() -> onnxscript.values.Op:
    schema = onnx.defs.OpSchema
    floats = ["tensor(float16)", "tensor(bfloat16)", "tensor(float)", "tensor(double)"]
    optional = schema.FormalParameterOption.Optional
    return onnxscript.values.Op(
        onnxscript.values.Opset(_DOMAIN, 1),
        BATCH_NORM,
        schema(
            BATCH_NORM,
            _DOMAIN,
            1,
            inputs=[
                schema.FormalParameter("input", "T"),
                *(
                    schema.FormalParameter(name, "T", param_option=optional)
                    for name in ("weight", "bias", "mean", "variance")
                ),
            ],
            outputs=[schema.FormalParameter("output", "T")],
            type_constraints=[("T", floats, "any float")],
            attributes=[schema.Attribute("epsilon", schema.AttrType.FLOAT, "", required=True)],
        ),
    )


_PLACEHOLDER = _placeholder()


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


def fold_batch_norm(model: onnx.ModelProto) -> int:
    """Fold every batch normalisation into the layer before it, in place.

    Where that layer's output has another reader, or there is no such layer, the node becomes a
    BatchNormalization.

    Args:
        model: A traced graph, with its weights.

    Returns:
        How many were folded.

    Raises:
        ExportError: A layer normalises by the statistics of the batch, which an answer must not
            depend on.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    folded: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    for node in graph.node:
        if (node.domain, node.op_type) != (_DOMAIN, BATCH_NORM):
            continue
        if len(node.input) < 5:
            raise ExportError(
                f"layer {_layer(node)!r}: normalises by the statistics of the batch, so that one "
                "image's answer depends on the others; keep running statistics "
                "(track_running_stats=True)"
            )
        layer = producers.get(node.input[0])
        if layer is not None and readers[node.input[0]] == 1:
            channels = _FOLDED.get(layer.op_type)
            axis = None if channels is None else channels(layer)
            if axis is not None and all(name in tensors for name in layer.input[1:] if name):
                _fold(graph, layer, _affine(node, tensors), axis, tensors, readers)
                renamed[node.output[0]] = layer.output[0]
                producers[node.output[0]] = layer
                readers[layer.output[0]] = readers[node.output[0]]
                folded.append(node)
                continue
        _standard(node, tensors, Emitter(model, node.output[0]))
    for node in folded:
        graph.node.remove(node)
    _rename(graph, renamed)
    for index in reversed(range(len(model.opset_import))):
        is_used = any(node.domain == _DOMAIN for node in graph.node)
        if model.opset_import[index].domain == _DOMAIN and not is_used:
            del model.opset_import[index]
    return len(folded)


def _rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    """Let the readers of a folded node read the layer; the graph's outputs keep their names."""
    outputs = {output.name for output in graph.output}
    kept = {new: old for old, new in renamed.items() if old in outputs}
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        for place, name in enumerate(node.input):
            node.input[place] = kept.get(name, name)
        for place, name in enumerate(node.output):
            node.output[place] = kept.get(name, name)


def _affine(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> _Affine:
    mean, variance = (_double(tensors[node.input[place]]) for place in (3, 4))
    epsilon = float(attribute(node, "epsilon", _EPSILON))  # type: ignore[arg-type]
    factor = 1 / np.sqrt(variance + epsilon)
    if node.input[1]:
        factor = factor * _double(tensors[node.input[1]])
    addend = -mean * factor
    if node.input[2]:
        addend = addend + _double(tensors[node.input[2]])
    return _Affine(factor, addend)


def _double(tensor: onnx.TensorProto) -> npt.NDArray[np.float64]:
    return numpy_helper.to_array(tensor).astype(np.float64)


def _fold(
    graph: onnx.GraphProto,
    layer: onnx.NodeProto,
    affine: _Affine,
    axis: int,
    tensors: dict[str, onnx.TensorProto],
    readers: Counter[str],
) -> None:
    def put(place: int, word: str, array: npt.NDArray[Any]) -> None:
        """Set a parameter of the layer, apart from any other layer's that it was shared with."""
        own = layer.input[place] if place < len(layer.input) else ""
        if own and readers[own] == 1:
            tensors[own].CopyFrom(numpy_helper.from_array(array, own))
            return
        name = f"{layer.name}.{word}"
        while name in tensors:
            name = f"{name}_folded"
        inputs = [*layer.input[:place], name, *layer.input[place + 1 :]]
        del layer.input[:]
        layer.input.extend(inputs)
        tensors[name] = graph.initializer.add()
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
        readers[name] = 1

    weight = numpy_helper.to_array(tensors[layer.input[1]])
    sides = [1] * weight.ndim
    sides[axis] = -1
    addend = affine.addend
    if len(layer.input) > 2 and layer.input[2]:
        addend = addend + _double(tensors[layer.input[2]]) * affine.factor
    put(2, "bias", addend.astype(weight.dtype))
    put(1, "weight", (weight * affine.factor.reshape(sides)).astype(weight.dtype))


def _conv(_layer: onnx.NodeProto) -> int | None:
    return 0


def _conv_transpose(layer: onnx.NodeProto) -> int | None:
    return 1 if attribute(layer, "group", 1) == 1 else None


def _gemm(layer: onnx.NodeProto) -> int | None:
    if attribute(layer, "alpha", 1.0) != 1.0 or attribute(layer, "beta", 1.0) != 1.0:
        return None
    return 0 if attribute(layer, "transB", 0) else 1


# Which axis of a layer's weight counts its output channels; None where it cannot be folded.
_FOLDED = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm}


def _standard(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto], emitter: Emitter) -> None:
    """Write the placeholder as ONNX's operator, which has no optional inputs."""
    mean = tensors[node.input[3]]
    dtype = helper.tensor_dtype_to_np_dtype(mean.data_type)
    for place, neutral in ((1, 1.0), (2, 0.0)):
        if not node.input[place]:
            node.input[place] = emitter.constant(np.full(mean.dims, neutral), dtype=dtype)
    node.domain, node.op_type = "", "BatchNormalization"
    epsilon = helper.make_attribute("epsilon", attribute(node, "epsilon", _EPSILON))
    del node.attribute[:]
    node.attribute.append(epsilon)


def _layer(node: onnx.NodeProto) -> str:
    """Name the module that a traced node comes from."""
    scopes = {entry.key: entry.value for entry in node.metadata_props}.get(
        "pkg.torch.onnx.name_scopes", "[]"
    )
    names = ast.literal_eval(scopes)
    return str(names[-2]) if len(names) > 1 else str(node.name)
