"""Weights that stay where they are while somebody computes with them."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from anysize.surgery.storage.external_data import external_range, read_range, set_external
from anysize.surgery.storage.payloads import load_tensor, locate
from anysize.surgery.storage.tensors import OURS, Place, all_tensors, is_loaded, is_packed, place_of

__all__ = ["attached", "mapped_array"]


def attached(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Give a runtime a model whose weights `load_model(…, weights="in_file")` left in their file.

    To a runtime a range of a model's file is external data like any other, which it maps into
    memory: there is no copy of the weights beside what it computes with.

    Args:
        model: Not modified.
        folder: Where the file lies.

    Returns:
        A copy in which such initializers are external data of the model's own file. Those that no
        location can name, and tensors elsewhere, are read. The model itself where there are none.
    """
    if not any(place_of(tensor) in OURS for tensor in all_tensors(model)):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if place_of(tensor) is Place.OWN_FILE and (name := _file_name(tensor)) is not None:
            piece = external_range(tensor, folder)
            if not piece.path.is_symlink():
                set_external(tensor, name, offset=piece.offset, size_bytes=piece.size_bytes)
    for tensor in all_tensors(copy):
        if place_of(tensor) in OURS:
            load_tensor(tensor, folder)
    return copy


def _file_name(tensor: onnx.TensorProto) -> str | None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    name = os.fsdecode(unquote_to_bytes(entries["location"]))
    try:
        name.encode()  # a name may be any bytes, a location is UTF-8
    except UnicodeEncodeError:
        return None
    return name


def mapped_array(tensor: onnx.TensorProto, folder: Path | None = None) -> NDArray[np.generic]:
    """Return a tensor as an array; one that is not in memory is mapped from its file, read-only.

    Args:
        tensor: Wherever its bytes are.
        folder: Where it lies, if it is not in memory.

    Raises:
        ModelFileError: It is not where it should be.
    """
    if is_loaded(tensor):
        return onnx.numpy_helper.to_array(tensor)
    dims = tuple(tensor.dims)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if place_of(tensor) is Place.PERMUTED:
        return np.frombuffer(locate(tensor, folder).read(), dtype).reshape(dims)
    piece = external_range(tensor, folder or Path())
    if is_packed(tensor) or not piece.size_bytes:
        loaded = onnx.TensorProto(data_type=tensor.data_type, dims=dims, raw_data=read_range(piece))
        return onnx.numpy_helper.to_array(loaded)
    # ONNX stores little-endian numbers, which is what the machines that run the runtimes have.
    return np.memmap(piece.path, dtype=dtype, mode="r", offset=piece.offset, shape=dims)
