"""A float64 copy of an ONNX graph, for the arbiter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from anysize.surgery.graph import reads
from anysize.surgery.storage import all_tensors, copy_fields, is_loaded, load_tensor, mapped_array

__all__ = ["Float64Graph", "to_float64"]

_NARROW = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_DOUBLE = onnx.TensorProto.DOUBLE
# Attributes that name an element type: Cast's and CastLike's kin, random and window generators.
_TYPE_ATTRIBUTES = ("to", "dtype", "output_datatype")
# Matrices from here on stay narrow until NumPy multiplies a float64 array with them.
_LARGE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Float64Graph:
    """A graph whose initializers have become inputs, and the values to feed them with.

    That way the weights exist once as arrays, and not in a second message beside them. Large
    matrices of fully connected layers are narrow still, and lie in their file where they did: the
    product with a float64 array makes them float64, one at a time, for as long as it takes.
    """

    model: onnx.ModelProto
    weights: Mapping[str, NDArray[np.generic]]


def to_float64(model: onnx.ModelProto, *, folder: Path | None = None) -> Float64Graph:
    """Make a copy in which every floating-point tensor is float64.

    Initializers, constants, attributes, casts, declared types and subgraphs are converted, float16
    ones too: the arbiter is what the graph means, not what a narrow type makes of it.

    Args:
        model: Not modified; external weights are read one at a time.
        folder: Where external weights lie.
    """
    converted = onnx.ModelProto()
    copy_fields(model, converted, leave_out=("graph", "training_info"))
    copy_fields(model.graph, converted.graph, leave_out=("initializer", "input"))
    for tensor in all_tensors(converted):
        if not is_loaded(tensor):
            load_tensor(tensor, folder or Path())
    multiplied = _only_multiplied(model.graph)
    weights = {}
    for tensor in model.graph.initializer:
        array = mapped_array(tensor, folder)
        is_kept = tensor.name in multiplied and array.nbytes >= _LARGE_BYTES
        weights[tensor.name] = array if is_kept else _widen(array)
    converted.graph.input.extend(i for i in model.graph.input if i.name not in weights)
    converted.graph.input.extend(
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in weights.items()
    )
    _convert_graph(converted.graph)
    for function in converted.functions:
        _convert_nodes(function.node)
    return Float64Graph(converted, weights)


def _only_multiplied(graph: onnx.GraphProto) -> set[str]:
    """Name the tensors that nothing reads but the second operand of a Gemm or MatMul."""
    found: set[str] = set()
    other: set[str] = {output.name for output in graph.output}
    for node in graph.node:
        is_product = node.op_type in ("Gemm", "MatMul") and node.domain in ("", "ai.onnx")
        if not is_product:
            other |= reads(node)
            continue
        for place, name in enumerate(node.input):
            (found if place == 1 else other).add(name)
    return found - other


def _widen(array: NDArray[np.generic]) -> NDArray[np.generic]:
    narrow = onnx.helper.np_dtype_to_tensor_dtype(array.dtype) in _NARROW
    return array.astype(np.float64) if narrow else array


def _convert_graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:  # a subgraph's own
        _convert_tensor(tensor)
    for sparse in graph.sparse_initializer:
        _convert_tensor(sparse.values)
    for info in (*graph.input, *graph.output, *graph.value_info):
        tensor_type = info.type.tensor_type
        if tensor_type.elem_type in _NARROW:
            tensor_type.elem_type = _DOUBLE
    _convert_nodes(graph.node)


def _convert_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _convert_tensor(attribute.t)
            elif attribute.type == onnx.AttributeProto.GRAPH:
                _convert_graph(attribute.g)
            elif attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
                attribute.i = _DOUBLE
        if node.op_type == "Constant":
            _convert_constant(node)


def _convert_constant(node: onnx.NodeProto) -> None:
    """Turn `value_float` and `value_floats`, which are float32 by definition, into tensors."""
    for attribute in node.attribute:
        if attribute.name == "value_float":
            values = np.asarray(attribute.f, dtype=np.float64)
        elif attribute.name == "value_floats":
            values = np.asarray(attribute.floats, dtype=np.float64)
        else:
            continue
        replacement = onnx.helper.make_attribute("value", numpy_helper.from_array(values))
        attribute.CopyFrom(replacement)
        return


def _convert_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _NARROW:
        values = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
