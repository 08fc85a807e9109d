"""Tensors of an ONNX file, seen without reading their bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum

import numpy as np
import onnx
import onnx.numpy_helper

__all__ = [
    "DATA_FIELDS",
    "HELD",
    "LARGE_BYTES",
    "OURS",
    "PERMUTED_KEY",
    "PLACE_KEY",
    "SMALL_ELEMENTS",
    "Place",
    "all_tensors",
    "element_count",
    "is_loaded",
    "is_outside",
    "is_packed",
    "is_small",
    "payload_bytes",
    "place_of",
    "small_array",
]

# Shapes, axes, scales and clip bounds are smaller than this; weights that matter are larger.
SMALL_ELEMENTS = 1024

# Weights from here on stay in their file, or with their module. Shapes, scales and bounds are far
# smaller.
LARGE_BYTES = 1 << 16

# Where an inline tensor may keep its elements.
DATA_FIELDS = (
    "raw_data",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "string_data",
)

# Marks a tensor whose `external_data` say where it lies in the model's own file or, with the value
# HELD, which array beside the model it is. Never written.
PLACE_KEY = "anysize.place"
HELD = "held"

# Marks a tensor whose `external_data` say where another lies, and how that must be turned and
# scaled. Never written.
PERMUTED_KEY = "anysize.turned"

# Packed types, whose elements are narrower than a byte.
_BITS = {
    name: bits
    for name, bits in (
        ("INT4", 4),
        ("UINT4", 4),
        ("FLOAT4E2M1", 4),
        ("INT2", 2),
        ("UINT2", 2),
    )
    if name in onnx.TensorProto.DataType.keys()  # noqa: SIM118 - a protobuf enum, not a dict
}


class Place(Enum):
    """Where a tensor's bytes lie."""

    MEMORY = "in the tensor itself"
    OWN_FILE = "left where they are in the model's own file"
    OTHER_FILE = "external data, in a file beside the model"
    BESIDE = "an array that stands beside the model"
    PERMUTED = "another tensor's, permuted when they are written"


# What no other program knows; none of these is ever written.
OURS = frozenset({Place.OWN_FILE, Place.BESIDE, Place.PERMUTED})


def place_of(tensor: onnx.TensorProto) -> Place:
    """Say where the tensor's bytes lie."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if PERMUTED_KEY in entries:
        return Place.PERMUTED
    if PLACE_KEY in entries:
        return Place.BESIDE if entries[PLACE_KEY] == HELD else Place.OWN_FILE
    is_external = tensor.data_location == onnx.TensorProto.EXTERNAL
    return Place.OTHER_FILE if is_external else Place.MEMORY


def is_loaded(tensor: onnx.TensorProto) -> bool:
    """Say whether the tensor's bytes are in memory."""
    return place_of(tensor) is Place.MEMORY


def is_outside(tensor: onnx.TensorProto) -> bool:
    """Say whether the tensor's bytes, or those that they are permuted from, lie in another file."""
    place = place_of(tensor)
    is_of_ours = any(entry.key == PLACE_KEY for entry in tensor.external_data)
    return place is Place.OTHER_FILE or (place is Place.PERMUTED and not is_of_ours)


def element_count(tensor: onnx.TensorProto) -> int:
    """Count the elements that the tensor's dims announce."""
    return math.prod(tensor.dims)


def is_packed(tensor: onnx.TensorProto) -> bool:
    """Say whether the tensor's elements are narrower than a byte."""
    return onnx.TensorProto.DataType.Name(tensor.data_type) in _BITS


def is_small(tensor: onnx.TensorProto) -> bool:
    """Say whether the tensor is inline and short enough to be read while shapes are worked out."""
    return is_loaded(tensor) and element_count(tensor) <= SMALL_ELEMENTS


def payload_bytes(tensor: onnx.TensorProto) -> int | None:
    """Count the bytes that the tensor's raw data must have; None for strings and unknown types."""
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    if name in ("STRING", "UNDEFINED"):
        return None
    bits = _BITS.get(name)
    if bits is None:
        try:
            bits = 8 * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        except KeyError:
            return None
    return (element_count(tensor) * bits + 7) // 8


def small_array(tensor: onnx.TensorProto) -> np.ndarray | None:
    """Read a small tensor; None where it is large, external, or holds no numbers."""
    if not is_small(tensor) or tensor.data_type == onnx.TensorProto.STRING:
        return None
    array: np.ndarray = onnx.numpy_helper.to_array(tensor)
    return array


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of the file, those of attributes, subgraphs and functions among them."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("g"):
            yield from _graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from _graph_tensors(graph)
