"""External weights: where they may lie, and copying them without loading them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

import onnx

from anysize.errors import ModelFileError
from anysize.surgery.storage.tensors import DATA_FIELDS, PLACE_KEY, Place, payload_bytes, place_of

__all__ = [
    "ExternalRange",
    "copy_range",
    "external_range",
    "read_range",
    "set_external",
]

_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class ExternalRange:
    """The bytes of one external tensor: `size_bytes` from `offset` on in `path`."""

    path: Path
    offset: int
    size_bytes: int

    def read(self) -> bytes:
        """Read the range into memory; see `read_range`."""
        return read_range(self)

    def copy_to(self, stream: BinaryIO) -> None:
        """Append the range to a file; see `copy_range`."""
        with self.path.open("rb") as source:
            copy_range(source, stream, self)


def external_range(tensor: onnx.TensorProto, folder: Path) -> ExternalRange:
    """Locate the bytes of a tensor that is not in memory, and prove that they are there.

    Those of an external one must lie inside `folder`. Links are refused, symbolic and hard, as
    `onnx.load` refuses them; so are holes, where nothing was ever written: an unfinished download,
    or a file that claims a terabyte and has none.

    Raises:
        ModelFileError: The location leaves the folder, passes through a link, is no regular
            file, has a hole, or is shorter than the tensor needs.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    what = f"external data of tensor {tensor.name!r}"
    location = entries.get("location", "")
    if place_of(tensor) is Place.OWN_FILE:  # the model may be called as it likes, and be a link
        path = folder / os.fsdecode(unquote_to_bytes(location))
    else:
        path = _safe_path(location, folder, what)
    offset = _whole_number(entries.get("offset", "0"), "offset", what)
    status = path.stat()
    if "length" in entries:
        size_bytes = _whole_number(entries["length"], "length", what)
    else:
        size_bytes = max(0, status.st_size - offset)
    if offset + size_bytes > status.st_size:
        raise ModelFileError(
            f"{what}: {location!r} has {status.st_size} bytes, expected at least "
            f"{offset + size_bytes} (offset {offset} + length {size_bytes}); the file is cut short"
        )
    needed = payload_bytes(tensor)
    if needed is not None and size_bytes != needed:
        raise ModelFileError(
            f"{what}: holds {size_bytes} bytes, expected {needed} for shape {list(tensor.dims)}"
        )
    piece = ExternalRange(path, offset, size_bytes)
    _refuse_holes(piece, what)
    return piece


def _refuse_holes(piece: ExternalRange, what: str) -> None:
    if not piece.size_bytes or not hasattr(os, "SEEK_HOLE"):
        return
    with piece.path.open("rb") as stream:
        try:
            hole = os.lseek(stream.fileno(), piece.offset, os.SEEK_HOLE)
        except OSError:  # a file system that does not tell
            return
    if hole < piece.offset + piece.size_bytes:
        raise ModelFileError(
            f"{what}: {piece.path.name!r} has a hole at byte {hole}, where nothing was written; "
            "download it again, or fill it with `cp --sparse=never`"
        )


def _safe_path(location: str, folder: Path, what: str) -> Path:
    parts = PurePosixPath(location).parts
    if not parts or "\0" in location:
        raise ModelFileError(f"{what}: got location {location!r}, expected a file name")
    is_absolute = location.startswith(("/", "\\")) or Path(location).is_absolute()
    if is_absolute or ".." in parts or ".." in location.replace("\\", "/").split("/"):
        raise ModelFileError(
            f"{what}: location {location!r} leaves the model's folder; "
            "expected a file beside the model"
        )
    path = folder
    for part in parts:
        path = path / part
        try:
            status = path.lstat()
        except (OSError, ValueError) as exc:
            raise ModelFileError(
                f"{what}: file {location!r} is not beside the model; put it there"
            ) from exc
        if stat.S_ISLNK(status.st_mode):
            raise ModelFileError(
                f"{what}: {location!r} passes through a symbolic link; put the file itself there"
            )
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError(f"{what}: {location!r} is no regular file")
    if status.st_nlink > 1:
        raise ModelFileError(
            f"{what}: {location!r} is a hard link ({status.st_nlink} names), which onnx.load "
            "refuses too; put a copy there"
        )
    return path


def _whole_number(text: str, key: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelFileError(f"{what}: {key} is {text[:40]!r}, expected a whole number of bytes")
    return int(text)


def read_range(piece: ExternalRange) -> bytes:
    """Read a range into memory.

    Raises:
        ModelFileError: The file ended early (it changed since).
    """
    with piece.path.open("rb") as stream:
        stream.seek(piece.offset)
        data = stream.read(piece.size_bytes)
    if len(data) != piece.size_bytes:
        raise ModelFileError(f"external data {piece.path.name!r}: changed while it was read")
    return data


def copy_range(source: BinaryIO, target: BinaryIO, piece: ExternalRange) -> None:
    """Append a range of `source` to `target`, in the kernel where the system can.

    Raises:
        ModelFileError: The source ended early (it changed while it was read).
    """
    target.flush()
    done = 0
    while done < piece.size_bytes:
        want = piece.size_bytes - done
        try:
            copied = os.copy_file_range(
                source.fileno(), target.fileno(), min(want, 1 << 30), offset_src=piece.offset + done
            )
        except (AttributeError, OSError):  # not Linux, or another kind of file system
            break
        if copied == 0:
            break
        done += copied
    target.seek(0, os.SEEK_END)
    source.seek(piece.offset + done)
    while done < piece.size_bytes:
        block = source.read(min(_CHUNK_BYTES, piece.size_bytes - done))
        if not block:
            raise ModelFileError(
                f"external data {piece.path.name!r}: ended after {done} of {piece.size_bytes} "
                "bytes; the file changed while it was read"
            )
        target.write(block)
        done += len(block)


def set_external(tensor: onnx.TensorProto, location: str, *, offset: int, size_bytes: int) -> None:
    """Point `tensor` at bytes in another file and drop the bytes that it holds itself."""
    kept = [
        (entry.key, entry.value)
        for entry in tensor.external_data
        if entry.key not in ("location", "offset", "length", PLACE_KEY)
    ]
    for field in (*DATA_FIELDS, "external_data"):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (
        ("location", location),
        ("offset", str(offset)),
        ("length", str(size_bytes)),
        *kept,
    ):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
