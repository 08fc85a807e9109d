"""Writing a ModelProto without a second copy of its weights.

`SerializeToString` holds the whole file twice, once in protobuf's buffer and once as bytes: 1055
MiB on top of VGG-16's 528. The wire format makes that unnecessary: a message is the concatenation
of its fields, and a field of type message is its tag, its length and its bytes
(https://protobuf.dev/programming-guides/encoding). So the file is written as everything but the
weights, and then one weight after another.
"""

from __future__ import annotations

from typing import BinaryIO

import onnx
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from anysize.surgery.skeleton import copy_fields
from anysize.surgery.tensors import payload_bytes

__all__ = ["write_model"]

# Below this a copy costs nothing, and the plain way is the plain way.
_LARGE_BYTES = 1 << 20


def write_model(model: onnx.ModelProto, stream: BinaryIO) -> None:
    """Write `model` as protobuf, its large initializers one at a time.

    Args:
        model: Not modified; below protobuf's 2 GiB in total, and with all weights inline.
        stream: Receives the bytes.
    """
    large = [tensor for tensor in model.graph.initializer if _is_large(tensor)]
    # Fields of a newer ONNX cannot be copied one by one.
    if not large or any(len(UnknownFieldSet(m)) for m in (model, model.graph, *large)):
        stream.write(model.SerializeToString())
        return
    outer = onnx.ModelProto()
    copy_fields(model, outer, leave_out=("graph",))
    graph = onnx.GraphProto()
    copy_fields(model.graph, graph, leave_out=("initializer",))
    graph.initializer.extend(t for t in model.graph.initializer if not _is_large(t))
    head = graph.SerializeToString()
    shells = [_shell(tensor) for tensor in large]
    # protobuf hands out a copy of the bytes, and counts a message's by serialising it.
    counts = [len(tensor.raw_data) for tensor in large]
    data_tag = _tag(onnx.TensorProto(), "raw_data")
    sizes = [
        len(shell) + len(data_tag) + len(_varint(count)) + count
        for shell, count in zip(shells, counts, strict=True)
    ]
    tag = _tag(graph, "initializer")
    length = len(head) + sum(len(tag) + len(_varint(size)) + size for size in sizes)
    stream.write(outer.SerializeToString())
    stream.write(_tag(outer, "graph") + _varint(length))
    stream.write(head)
    for size, shell, count, tensor in zip(sizes, shells, counts, large, strict=True):
        stream.write(tag + _varint(size) + shell + data_tag + _varint(count))
        stream.write(tensor.raw_data)


def _shell(tensor: onnx.TensorProto) -> bytes:
    """Serialise a tensor without its bytes."""
    shell = onnx.TensorProto()
    copy_fields(tensor, shell, leave_out=("raw_data",))
    return bytes(shell.SerializeToString())


def _is_large(tensor: onnx.TensorProto) -> bool:
    return tensor.HasField("raw_data") and (payload_bytes(tensor) or 0) >= _LARGE_BYTES


def _tag(message: Message, field: str) -> bytes:
    """Return the tag of a field of type message or bytes: its number and wire type 2."""
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | 2)


def _varint(number: int) -> bytes:
    """Encode a number seven bits at a time, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
