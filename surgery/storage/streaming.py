"""Writing a ModelProto without a copy of its weights.

`SerializeToString` holds the whole file twice, once in protobuf's buffer and once as bytes: 1055
MiB on top of VGG-16's 528. So the model is serialised without its large weights, and they are put
in their places while that is written: from memory one at a time, from a file by the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import onnx
from google.protobuf.unknown_fields import UnknownFieldSet

from anysize.surgery.storage.payloads import Payload, WeightPlace, locate
from anysize.surgery.storage.structure import ON_THE_WAY, placeholder
from anysize.surgery.storage.tensors import (
    LARGE_BYTES,
    OURS,
    PLACE_KEY,
    Place,
    all_tensors,
    is_loaded,
    payload_bytes,
    place_of,
)
from anysize.surgery.storage.weightless import copy_fields
from anysize.surgery.storage.wire import LENGTH_DELIMITED, fields_of, number_of, tag, varint

__all__ = ["write_model"]

_RAW_DATA = number_of(onnx.TensorProto, "raw_data")
_LIMIT_BYTES = (1 << 31) - 1


def write_model(
    model: onnx.ModelProto,
    stream: BinaryIO,
    *,
    place: WeightPlace | None = None,
    keeps_external: bool = False,
) -> None:
    """Write `model` as protobuf, its large weights one at a time.

    Args:
        model: Not modified.
        stream: Receives the bytes; a file where weights come from one.
        place: Where weights are that the model does not hold itself.
        keeps_external: Leave external weights external; they are brought in otherwise.

    Raises:
        ModelFileError: A weight is not where it should be.
        ValueError: The file would pass protobuf's 2 GiB.
    """
    light = _shell_of(model)
    payloads: list[Payload] = []
    for original, tensor in zip(_weights(model), _weights(light), strict=True):
        is_brought_in = place_of(original) is Place.OTHER_FILE and not keeps_external
        if not (is_brought_in or place_of(original) in OURS or _is_large(original)):
            continue
        payloads.append(locate(original, place))
        _set_aside(tensor, original, len(payloads) - 1)
    if not keeps_external:
        for tensor in all_tensors(light):  # within subgraphs and functions
            if place_of(tensor) is Place.OTHER_FILE:
                tensor.raw_data = locate(tensor, place).read()
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
    pieces = list(_splice(light.SerializeToString(), onnx.ModelProto.DESCRIPTOR, payloads))
    if sum(map(_length, pieces)) > _LIMIT_BYTES:
        raise ValueError(f"the file would pass {_LIMIT_BYTES} bytes")
    for piece in pieces:
        if isinstance(piece, bytes):
            stream.write(piece)
        else:
            piece.copy_to(stream)


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
    if place_of(original) is Place.OWN_FILE:
        is_stated = original.external_data[-1].value == "stated"
    for field in ("raw_data", "external_data", "data_location"):
        tensor.ClearField(field)
    tensor.MergeFromString(placeholder("", index, 0, has_location=is_stated))


def _splice(data: bytes, descriptor: Any, payloads: Sequence[Payload]) -> list[bytes | Payload]:
    """Put the payloads back into a serialised message, before the fields that follow them."""
    if PLACE_KEY.encode() not in data:
        return [data]
    if descriptor.name == "TensorProto":
        return _fill(data, payloads)
    inner = {descriptor.fields_by_name[n].number for n in ON_THE_WAY.get(descriptor.name, ())}
    pieces: list[bytes | Payload] = []
    for field in fields_of(data):
        value = data[field.value : field.end]
        if field.kind == LENGTH_DELIMITED and field.number in inner:
            nested = descriptor.fields_by_number[field.number].message_type
            body = _splice(value, nested, payloads)
            pieces += [tag(field.number), varint(sum(map(_length, body))), *body]
        else:
            pieces.append(data[field.start : field.end])
    return pieces


def _fill(data: bytes, payloads: Sequence[Payload]) -> list[bytes | Payload]:
    tensor = onnx.TensorProto.FromString(data)
    if place_of(tensor) is not Place.OWN_FILE:  # it only mentions the word
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


def _length(piece: bytes | Payload) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.size_bytes
