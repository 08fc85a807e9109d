"""Writing a ModelProto without a copy of its weights.

`SerializeToString` holds the whole file twice, once in protobuf's buffer and once as bytes: 1055
MiB on top of VGG-16's 528. So the model is serialised without its large weights, and they are put
in their places while that is written: from memory one at a time, from a file by the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import onnx
from google.protobuf.unknown_fields import UnknownFieldSet

from anysize.errors import ModelFileError
from anysize.surgery.external_data import ExternalRange, copy_range, external_range, read_range
from anysize.surgery.locating import LARGE_BYTES, ON_THE_WAY, placeholder
from anysize.surgery.skeleton import copy_fields
from anysize.surgery.tensors import (
    PLACE_KEY,
    all_tensors,
    is_external,
    is_inline_in_file,
    is_loaded,
    payload_bytes,
)
from anysize.surgery.wire import LENGTH_DELIMITED, fields_of, number_of, tag, varint

__all__ = ["write_model"]

# A weight: a range of a file, or a tensor that holds its bytes.
_Payload = ExternalRange | onnx.TensorProto
_RAW_DATA = number_of(onnx.TensorProto, "raw_data")
_LIMIT_BYTES = (1 << 31) - 1


def write_model(
    model: onnx.ModelProto,
    stream: BinaryIO,
    *,
    folder: Path | None = None,
    keeps_external: bool = False,
) -> None:
    """Write `model` as protobuf, its large weights one at a time.

    Args:
        model: Not modified.
        stream: Receives the bytes; a file where weights come from one.
        folder: Where weights that are not in memory lie.
        keeps_external: Leave external weights external; they are brought in otherwise.

    Raises:
        ModelFileError: A weight is not where it should be.
        ValueError: The file would pass protobuf's 2 GiB.
    """
    light = _shell_of(model)
    payloads: list[_Payload] = []
    for original, tensor in zip(_weights(model), _weights(light), strict=True):
        is_brought_in = is_external(original) and not keeps_external
        if is_brought_in or is_inline_in_file(original):
            payloads.append(external_range(original, folder or Path()))
        elif _is_large(original):
            payloads.append(original)
        else:
            continue
        _set_aside(tensor, original, len(payloads) - 1)
    if not keeps_external:
        for tensor in all_tensors(light):  # within subgraphs and functions
            if not is_loaded(tensor) and not is_inline_in_file(tensor):
                tensor.raw_data = read_range(external_range(tensor, folder or Path()))
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
    pieces = list(_splice(light.SerializeToString(), onnx.ModelProto.DESCRIPTOR, payloads))
    if sum(map(_length, pieces)) > _LIMIT_BYTES:
        raise ValueError(f"the file would pass {_LIMIT_BYTES} bytes")
    for piece in pieces:
        _write(piece, stream)


def _shell_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model, large initializers without their bytes."""
    shell = onnx.ModelProto()
    large = [tensor for tensor in model.graph.initializer if _is_large(tensor)]
    # Fields of a newer ONNX cannot be copied one by one.
    if not large or any(len(UnknownFieldSet(m)) for m in (model, model.graph, *large)):
        shell.CopyFrom(model)
        return shell
    copy_fields(model, shell, leave_out=("graph",))
    copy_fields(model.graph, shell.graph, leave_out=("initializer",))
    for tensor in model.graph.initializer:
        leave_out = ("raw_data",) if _is_large(tensor) else ()
        copy_fields(tensor, shell.graph.initializer.add(), leave_out=leave_out)
    return shell


def _weights(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _is_large(tensor: onnx.TensorProto) -> bool:
    return tensor.HasField("raw_data") and (payload_bytes(tensor) or 0) >= LARGE_BYTES


def _set_aside(tensor: onnx.TensorProto, original: onnx.TensorProto, index: int) -> None:
    """Let a placeholder stand for the tensor's bytes; its offset is the payload's number."""
    is_stated = is_loaded(original) and original.HasField("data_location")
    if is_inline_in_file(original):
        is_stated = original.external_data[-1].value == "stated"
    for field in ("raw_data", "external_data", "data_location"):
        tensor.ClearField(field)
    tensor.MergeFromString(placeholder("", index, 0, has_location=is_stated))


def _splice(data: bytes, descriptor: Any, payloads: Sequence[_Payload]) -> list[bytes | _Payload]:
    """Put the payloads back into a serialised message, before the fields that follow them."""
    if PLACE_KEY.encode() not in data:
        return [data]
    if descriptor.name == "TensorProto":
        return _fill(data, payloads)
    inner = {descriptor.fields_by_name[n].number for n in ON_THE_WAY.get(descriptor.name, ())}
    pieces: list[bytes | _Payload] = []
    for field in fields_of(data):
        value = data[field.value : field.end]
        if field.kind == LENGTH_DELIMITED and field.number in inner:
            nested = descriptor.fields_by_number[field.number].message_type
            body = _splice(value, nested, payloads)
            pieces += [tag(field.number), varint(sum(map(_length, body))), *body]
        else:
            pieces.append(data[field.start : field.end])
    return pieces


def _fill(data: bytes, payloads: Sequence[_Payload]) -> list[bytes | _Payload]:
    tensor = onnx.TensorProto.FromString(data)
    if not is_inline_in_file(tensor):  # it only mentions the word
        return [data]
    entries = {entry.key: entry.value for entry in tensor.external_data}
    payload = payloads[int(entries["offset"])]
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    if entries[PLACE_KEY] == "stated":
        tensor.data_location = onnx.TensorProto.DEFAULT
    shell = bytes(tensor.SerializeToString())
    split = next((f.start for f in fields_of(shell) if f.number > _RAW_DATA), len(shell))
    length = varint(_length(payload))
    return [shell[:split], tag(_RAW_DATA), length, payload, shell[split:]]


def _length(piece: bytes | _Payload) -> int:
    if isinstance(piece, bytes):
        return len(piece)
    if isinstance(piece, ExternalRange):
        return piece.size_bytes
    # protobuf hands out a copy of the bytes; the dims tell their number without one.
    return payload_bytes(piece) or len(piece.raw_data)


def _write(piece: bytes | _Payload, stream: BinaryIO) -> None:
    if isinstance(piece, bytes):
        stream.write(piece)
    elif isinstance(piece, ExternalRange):
        with piece.path.open("rb") as source:
            copy_range(source, stream, piece)
    else:
        data = piece.raw_data
        if len(data) != _length(piece):
            raise ModelFileError(
                f"tensor {piece.name!r}: holds {len(data)} bytes, expected {_length(piece)} for "
                f"shape {list(piece.dims)}"
            )
        stream.write(data)
