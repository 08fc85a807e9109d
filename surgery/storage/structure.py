"""An ONNX file's structure without its weights: each large one is replaced by its place.

A weight that lies inline is a range of bytes of the file, just as an external one is a range of
another. So it is described in the same words, entries of `external_data`, with one more that says
whose file it is. Reading a 528 MiB VGG-16 that way takes some kilobytes.

The same walk bounds what a hostile file can ask for before any message is built: an empty node
takes two bytes in a file and a hundred in memory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import onnx

from anysize.errors import ModelFileError
from anysize.surgery.storage.tensors import (
    DATA_FIELDS,
    LARGE_BYTES,
    OURS,
    PERMUTED_KEY,
    PLACE_KEY,
    Place,
    all_tensors,
    place_of,
)
from anysize.surgery.storage.wire import (
    LENGTH_DELIMITED,
    Field,
    field_at,
    fields_of,
    number_of,
    tag,
    varint,
)

__all__ = ["ON_THE_WAY", "Structure", "placeholder", "read_structure"]

# Several times what the largest classifiers have: a torch export of 2000 nodes has 120 000 fields.
MAX_FIELDS = 500_000
MAX_STRUCTURE_BYTES = 32 << 20
# Three levels for each subgraph within a subgraph, and some for the rest. Shape inference takes
# each branch of each If, so that a few more levels take it minutes.
MAX_DEPTH = 24

_HEADER_BYTES = 20
_BLOCK_BYTES = 1 << 18
_RAW_DATA = number_of(onnx.TensorProto, "raw_data")
_DATA_LOCATION = number_of(onnx.TensorProto, "data_location")
# Four or eight bytes in the file are as many in memory; numbers of variable length grow.
_FLOATS = tuple(number_of(onnx.TensorProto, name) for name in ("float_data", "double_data"))
# Where weights are looked for: an initializer, or the tensor of a Constant node.
ON_THE_WAY = {
    "ModelProto": ("graph",),
    "GraphProto": ("initializer", "node"),
    "NodeProto": ("attribute",),
    "AttributeProto": ("t",),
}


@dataclass(frozen=True, slots=True)
class Structure:
    """A file without its large weights.

    Attributes:
        data: The serialised model; see `anysize.surgery.storage.tensors.Place`.
        places: Offset and length of each weight that was left out.
    """

    data: bytes
    places: tuple[tuple[int, int], ...]

    def parse(self) -> onnx.ModelProto:
        """Parse the model, and check that every place is named by one tensor.

        Raises:
            DecodeError: It is no ONNX model.
            ModelFileError: A tensor claims to lie where it does not.
        """
        model: onnx.ModelProto = onnx.ModelProto.FromString(self.data)
        found = []
        for tensor in all_tensors(model):
            place = place_of(tensor)
            if place not in OURS:
                continue
            if place is not Place.OWN_FILE:
                raise _not_ours()
            entries = {entry.key: entry.value for entry in tensor.external_data}
            piece = (entries.get("offset", ""), entries.get("length", ""))
            is_whole = tensor.data_location == onnx.TensorProto.EXTERNAL
            if not is_whole or len(tensor.external_data) != 4 or _holds_data(tensor):
                raise ModelFileError(f"tensor {tensor.name!r}: its data are there more than once")
            found.append(piece)
        if sorted(found) != sorted((str(offset), str(length)) for offset, length in self.places):
            raise _not_ours()
        return model


def _not_ours() -> ModelFileError:
    words = f"{PLACE_KEY!r} or {PERMUTED_KEY!r}"
    return ModelFileError(f"an external data entry {words} is not ours; remove it")


def read_structure(stream: BinaryIO, path: Path) -> Structure:
    """Read the file without its large weights.

    Args:
        stream: The file, open; its position does not matter.
        path: The model's path, of which the name is recorded.

    Raises:
        ModelFileError: It is no protobuf message, or holds more than any network does.
    """
    reader = _Reader(stream.fileno(), quote(os.fsencode(path.name)))
    size_bytes = os.fstat(stream.fileno()).st_size
    pieces = reader.message(0, size_bytes, onnx.ModelProto.DESCRIPTOR)
    return Structure(b"".join(pieces), tuple(reader.places))


class _Reader:
    def __init__(self, handle: int, location: str) -> None:
        self.places: list[tuple[int, int]] = []
        self._handle = handle
        self._location = location
        self._fields = 0
        self._bytes = 0
        self._block = (0, b"")

    def message(self, start: int, end: int, descriptor: Any) -> list[bytes]:
        """Return the message between two offsets of the file, less its weights, in pieces."""
        inner = {descriptor.fields_by_name[n].number for n in ON_THE_WAY.get(descriptor.name, ())}
        is_tensor = descriptor.name == "TensorProto"
        pieces: list[bytes] = []
        place: tuple[int, int] | None = None
        has_location = False
        while start < end:
            field = self._field(start, end)
            size_bytes = field.end - field.value
            is_large = field.kind == LENGTH_DELIMITED and size_bytes >= LARGE_BYTES
            if is_large and is_tensor and field.number == _RAW_DATA and place is None:
                place = (field.value, size_bytes)
            elif is_large and field.number in inner:
                nested = descriptor.fields_by_number[field.number].message_type
                body = self.message(field.value, field.end, nested)
                pieces += [tag(field.number), varint(sum(map(len, body))), *body]
            else:
                is_weight = is_tensor and field.number in (_RAW_DATA, *_FLOATS)
                self._bytes += 0 if is_weight else field.end - start
                data = self._read(start, field.end)
                if field.kind == LENGTH_DELIMITED:
                    self._count(data[field.value - start :], field.number, descriptor, 0)
                has_location |= is_tensor and field.number == _DATA_LOCATION
                pieces.append(data)
            start = field.end
        if place is not None:
            self.places.append(place)
            pieces.append(placeholder(self._location, *place, has_location=has_location))
        return pieces

    def _field(self, start: int, end: int) -> Field:
        """Read the tag and the length of the field at an offset of the file."""
        self._fields += 1
        if self._fields > MAX_FIELDS or self._bytes > MAX_STRUCTURE_BYTES:
            raise ModelFileError(
                f"holds more than {MAX_FIELDS} fields or {MAX_STRUCTURE_BYTES >> 20} MiB beside "
                "its weights, which no classifier does"
            )
        header = self._read(start, min(end, start + _HEADER_BYTES))
        field = field_at(header, 0, end - start)
        return Field(field.number, field.kind, start, start + field.value, start + field.end)

    def _read(self, start: int, end: int) -> bytes:
        """Read a piece of the file; small ones come in blocks."""
        size_bytes = end - start
        base, block = self._block
        if not base <= start <= end <= base + len(block) and size_bytes < _BLOCK_BYTES:
            base, block = start, os.pread(self._handle, _BLOCK_BYTES, start)
            self._block = (base, block)
        if base <= start and end <= base + len(block):
            return block[start - base : end - base]
        data = os.pread(self._handle, size_bytes, start)
        if len(data) != end - start:
            raise ModelFileError("changed while it was read")
        return data

    def _count(self, data: bytes, number: int, descriptor: Any, depth: int) -> None:
        """Count the fields of a value that is in memory, if it is a message."""
        field = descriptor.fields_by_number.get(number)
        if field is None or field.message_type is None:
            return
        if depth == MAX_DEPTH:
            raise ModelFileError(f"nests more than {MAX_DEPTH} messages, which no classifier does")
        for inner in fields_of(data):
            self._fields += 1
            if inner.kind == LENGTH_DELIMITED:
                value = data[inner.value : inner.end]
                self._count(value, inner.number, field.message_type, depth + 1)
        if self._fields > MAX_FIELDS:
            raise ModelFileError(f"holds more than {MAX_FIELDS} fields, which no classifier does")


def placeholder(location: str, offset: int, length: int, *, has_location: bool) -> bytes:
    """Serialise the fields that stand for a weight that was left out.

    Args:
        location: Name of the file, quoted as in a URL: protobuf's strings hold no odd bytes.
        offset: Where in the file the weight begins.
        length: Number of bytes.
        has_location: Whether the tensor stated its `data_location`, which nobody has to.
    """
    shell = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    stated = "stated" if has_location else "default"
    for key, value in (
        ("location", location),
        ("offset", str(offset)),
        ("length", str(length)),
        (PLACE_KEY, stated),
    ):
        shell.external_data.add(key=key, value=value)
    return bytes(shell.SerializeToString())


def _holds_data(tensor: onnx.TensorProto) -> bool:
    return any(field.name in DATA_FIELDS for field, _ in tensor.ListFields())
