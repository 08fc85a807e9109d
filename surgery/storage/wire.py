"""Protobuf's wire format, as far as an ONNX file needs it.

A message is the concatenation of its fields; a field of type message, string or bytes is its tag,
its length and its bytes (https://protobuf.dev/programming-guides/encoding). That is enough to
leave a weight in its file while everything around it is read, and to write it back in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from anysize.errors import ModelFileError

__all__ = [
    "LENGTH_DELIMITED",
    "Field",
    "field_at",
    "fields_of",
    "number_of",
    "read_varint",
    "tag",
    "varint",
]

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}
# A 64-bit number takes at most this many bytes, seven bits in each.
_LONGEST_VARINT = 10

_DAMAGED = "is not an ONNX file, or is cut short: its protobuf does not parse"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a serialised message.

    Attributes:
        number: The field's number in the message's definition.
        kind: Wire type of the field.
        start: Where its tag begins.
        value: Where its value begins, behind tag and length.
        end: Where it ends.
    """

    number: int
    kind: int
    start: int
    value: int
    end: int


def fields_of(data: bytes) -> Iterator[Field]:
    """Walk over the fields of a message.

    Raises:
        ModelFileError: The bytes are no message.
    """
    position = 0
    while position < len(data):
        field = field_at(data, position, len(data))
        yield field
        position = field.end


def field_at(data: bytes, position: int, end: int) -> Field:
    """Read the field that begins at `position`; only its tag and length, or number, are looked at.

    Raises:
        ModelFileError: There is none, or it goes beyond `end`.
    """
    key, value = read_varint(data, position)
    kind = key & 7
    if kind == LENGTH_DELIMITED:
        length, value = read_varint(data, value)
        after = value + length
    elif kind == VARINT:
        after = read_varint(data, value)[1]
    elif kind in _WIDTHS:
        after = value + _WIDTHS[kind]
    else:  # groups, which ONNX has none of
        raise ModelFileError(f"{_DAMAGED} (wire type {kind})")
    if after > end or key < 8:
        raise ModelFileError(f"{_DAMAGED} (a field has no end)")
    return Field(key >> 3, kind, position, value, after)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Decode the number at `position`; returns it and where it ends.

    Raises:
        ModelFileError: It has no end.
    """
    number = 0
    for place, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, position + place + 1
    raise ModelFileError(f"{_DAMAGED} (a number has no end)")


def varint(number: int) -> bytes:
    """Encode a number seven bits at a time, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def tag(number: int) -> bytes:
    """Encode what stands before a field of type message, string or bytes."""
    return varint(number << 3 | LENGTH_DELIMITED)


def number_of(message: Any, field: str) -> int:
    """Return the number of a field in the definition of a message type."""
    return int(message.DESCRIPTOR.fields_by_name[field].number)
