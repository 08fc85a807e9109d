"""Reading an ONNX file without trusting it."""

from __future__ import annotations

import collections
import os
import stat
from pathlib import Path
from typing import Literal

import onnx
from google.protobuf.message import DecodeError, Message

from anysize.errors import ModelFileError
from anysize.surgery.storage.external_data import external_range
from anysize.surgery.storage.node_count import check_node_count
from anysize.surgery.storage.payloads import load_tensor
from anysize.surgery.storage.structure import read_structure
from anysize.surgery.storage.tensors import (
    Place,
    all_tensors,
    element_count,
    is_loaded,
    is_packed,
    payload_bytes,
    place_of,
)
from anysize.surgery.storage.weightless import check
from anysize.words import cleaned, one_line

__all__ = ["PROTOBUF_LIMIT_BYTES", "Weights", "load_model", "model_files"]

Weights = Literal["loaded", "in_file"]

# protobuf cannot parse or write a message of 2 GiB or more.
PROTOBUF_LIMIT_BYTES = (1 << 31) - 1
_MAX_OPSETS = 100


def load_model(path: Path | str, *, weights: Weights = "loaded") -> onnx.ModelProto:
    """Read and check an ONNX file; external weights are located and checked, not loaded.

    Args:
        path: The `.onnx` file.
        weights: `in_file` leaves large inline weights where they are, too. Such a model can be
            inspected, rewritten and, with `path` as its source, saved; it cannot be run.

    Returns:
        The model, its external tensors still external (relative to the folder of `path`).

    Raises:
        ModelFileError: The file is missing, no regular file, cut short, not ONNX, newer than the
            installed onnx, not a valid graph, or its external data is missing or unsafe.
    """
    path = Path(path)
    try:
        model = _parse(path)
        _check_versions(model)
        _check_text(model)
        check_node_count(model)
        _check_names(model)
        _check_tensors(model, path.parent)
        check(model)
        if weights == "loaded":
            _load_inline(model, path.parent)
    except ModelFileError as exc:
        raise ModelFileError(f"{path}: {exc}") from exc.__cause__
    except Exception as exc:  # a mutated file can trip anything on the way
        raise ModelFileError(f"{path}: is damaged: {one_line(exc)}") from exc
    return model


def model_files(path: Path | str, model: onnx.ModelProto | None = None) -> tuple[Path, ...]:
    """Return the files that a model consists of: itself, and those of its external weights.

    A model that cannot be read consists of itself.

    Args:
        path: The model's file.
        model: What was read from there, if that was done already.
    """
    path = Path(path)
    try:
        tensors = all_tensors(model or load_model(path, weights="in_file"))
        outside = [tensor for tensor in tensors if place_of(tensor) is Place.OTHER_FILE]
        return (path, *dict.fromkeys(external_range(t, path.parent).path for t in outside))
    except (ModelFileError, OSError):  # the latter where it changes at this moment
        return (path,)


def _parse(path: Path) -> onnx.ModelProto:
    try:
        # O_NONBLOCK: opening a FIFO must not wait for somebody to write into it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise ModelFileError(f"cannot be opened: {reason}") from exc
    status = os.fstat(handle)
    if stat.S_ISDIR(status.st_mode):
        os.close(handle)
        raise ModelFileError("is a folder, expected an ONNX file")
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError("is no regular file, expected an ONNX file")
        if status.st_size > PROTOBUF_LIMIT_BYTES:
            raise ModelFileError(
                f"has {status.st_size} bytes, expected at most {PROTOBUF_LIMIT_BYTES} (protobuf's "
                "limit); store its weights as external data"
            )
        if status.st_size == 0:
            raise ModelFileError("is empty, expected an ONNX file")
        try:
            return read_structure(stream, path).parse()
        except (DecodeError, OSError, ValueError) as exc:
            raise ModelFileError(
                "is not an ONNX file, or is cut short: its protobuf does not parse"
            ) from exc


def _load_inline(model: onnx.ModelProto, folder: Path) -> None:
    for tensor in all_tensors(model):
        if place_of(tensor) is Place.OWN_FILE:
            load_tensor(tensor, folder)


def _check_versions(model: onnx.ModelProto) -> None:
    if not model.HasField("graph") or not model.graph.node:
        raise ModelFileError("holds no ONNX graph; it is another kind of file or is cut short")
    if not model.graph.output:
        raise ModelFileError("holds a graph without outputs; it is no classifier, or is damaged")
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise ModelFileError(
            f"IR version {model.ir_version}, expected 1 to {onnx.IR_VERSION}; "
            "a newer onnx package may read it"
        )
    if len(model.opset_import) > _MAX_OPSETS:
        raise ModelFileError(f"names {len(model.opset_import)} opsets, expected a handful")
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise ModelFileError("names no ONNX opset; it is another kind of file or is cut short")
    if not 1 <= versions[0] <= newest:
        raise ModelFileError(
            f"opset {versions[0]}, expected 1 to {newest}; a newer onnx package may read it"
        )


def _check_names(model: onnx.ModelProto) -> None:
    """Refuse two tensors of one name: it is for each runtime to choose which it takes."""
    graph = model.graph
    kinds = {"initializers": graph.initializer, "inputs": graph.input, "outputs": graph.output}
    for kind, values in kinds.items():
        names = collections.Counter(value.name for value in values)
        for name, count in names.most_common(1):
            if count > 1:
                raise ModelFileError(f"has {count} {kind} called {name!r}, expected one")


def _check_text(message: Message) -> None:
    """Read every string of the file once: protobuf takes bytes that are no UTF-8 for strings."""
    if isinstance(message, onnx.TensorProto):  # its fields hold the weights: leave them alone
        str(message.name)
        str(message.doc_string)
        for entry in message.external_data:
            entry.ListFields()
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in value if field.is_repeated else (value,):
            _check_text(inner)


def _check_tensors(model: onnx.ModelProto, folder: Path) -> None:
    for tensor in all_tensors(model):
        if tensor.data_type not in onnx.TensorProto.DataType.values():
            raise ModelFileError(
                f"tensor {tensor.name!r}: data type {tensor.data_type} is not known to "
                f"onnx {onnx.__version__}"
            )
        if any(dim < 0 for dim in tensor.dims):
            raise ModelFileError(
                f"tensor {tensor.name!r}: dims {cleaned(list(tensor.dims))} are negative"
            )
        if not is_loaded(tensor):
            external_range(tensor, folder)
            continue
        needed = payload_bytes(tensor)
        if tensor.HasField("raw_data") and needed is not None:
            held = len(tensor.raw_data)
            if held != needed:
                raise ModelFileError(
                    f"tensor {tensor.name!r}: holds {held} bytes, expected {needed} for shape "
                    f"{list(tensor.dims)}"
                )
        elif needed is not None:
            _check_typed(tensor)


def _check_typed(tensor: onnx.TensorProto) -> None:
    """Compare the numbers of a tensor without raw data with its dims."""
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    expected = element_count(tensor) * (2 if name.startswith("COMPLEX") else 1)
    held = len(getattr(tensor, onnx.helper.tensor_dtype_to_field(tensor.data_type)))
    if held != expected and not (is_packed(tensor) and 0 < held < expected):
        raise ModelFileError(
            f"tensor {tensor.name!r}: holds {held} numbers, expected {expected} for shape "
            f"{cleaned(list(tensor.dims))}"
        )
