"""A weight whose elements move on the way from one file to another, a block at a time.

A matrix stored as (in, out), or in the order of channels-last, must be written in another order.
The first layer of a classifier may have gigabytes, so it is not brought into memory for that: its
tensor names the place of the stored one and how to turn it, and the turning happens while the new
file is written.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import onnx

from anysize.surgery.storage.external_data import ExternalRange, external_range
from anysize.surgery.storage.tensors import (
    LARGE_BYTES,
    PERMUTED_KEY,
    Place,
    is_packed,
    payload_bytes,
    place_of,
)
from anysize.surgery.storage.weightless import copy_fields

__all__ = ["Permutation", "PermutedWeight", "can_permute", "permute_later"]

_PLACE = frozenset({"location", "offset", "length"})

# Of the result that is made at once, and of the source that is mapped for it.
_BLOCK_BYTES = 16 << 20
# What fits a core's cache twice.
_STRIP_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Permutation:
    """One step of moving elements: look at them as `dims`, then permute the axes by `perm`."""

    dims: tuple[int, ...]
    perm: tuple[int, ...]


def can_permute(source: onnx.TensorProto) -> bool:
    """Say whether a tensor is in a file, and large enough to be turned on the way."""
    return (
        place_of(source) in (Place.OWN_FILE, Place.OTHER_FILE)
        and not is_packed(source)
        and (payload_bytes(source) or 0) >= LARGE_BYTES
    )


def permute_later(
    tensor: onnx.TensorProto, source: onnx.TensorProto, turns: Sequence[Permutation], scale: float
) -> None:
    """Let the bytes of `tensor` be those of `source`, turned and scaled when they are written.

    Args:
        tensor: Edited in place; has as many elements.
        source: One that `can_permute`.
        turns: How the elements are moved.
        scale: Factor on every element.
    """
    tensor.data_location = onnx.TensorProto.EXTERNAL
    if not turns and scale == 1.0:
        tensor.external_data.extend(source.external_data)
        return
    # The place goes into the recipe: whoever does not know that would take the bytes as they lie.
    place = {e.key: e.value for e in source.external_data if e.key in _PLACE}
    recipe = {
        "place": place,
        "dims": list(source.dims),
        "turns": [[list(turn.dims), list(turn.perm)] for turn in turns],
        "scale": scale,
    }
    tensor.external_data.add(key=PERMUTED_KEY, value=json.dumps(recipe))
    tensor.external_data.extend(e for e in source.external_data if e.key not in _PLACE)


class PermutedWeight:
    """The bytes of a tensor that `permute_later` made.

    Args:
        tensor: The tensor.
        folder: Where its source lies.

    Raises:
        ModelFileError: The source is not where it should be.
    """

    def __init__(self, tensor: onnx.TensorProto, folder: Path) -> None:
        recipe = next(json.loads(e.value) for e in tensor.external_data if e.key == PERMUTED_KEY)
        source = onnx.TensorProto()
        copy_fields(tensor, source, leave_out=("dims", "external_data"))
        source.dims.extend(recipe["dims"])
        for key, value in recipe["place"].items():
            source.external_data.add(key=key, value=value)
        source.external_data.extend(e for e in tensor.external_data if e.key != PERMUTED_KEY)
        self._piece = external_range(source, folder)
        self._turns = [Permutation(tuple(dims), tuple(perm)) for dims, perm in recipe["turns"]]
        self._scale = float(recipe["scale"])
        self._dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        self.size_bytes = self._piece.size_bytes

    def read(self) -> bytes:
        """Read the turned bytes into memory."""
        return b"".join(block.tobytes() for block in self._blocks())

    def copy_to(self, stream: BinaryIO) -> None:
        """Append the turned bytes to a file, a block at a time."""
        stream.writelines(block.reshape(-1).view(np.uint8).data for block in self._blocks())

    def _blocks(self) -> Iterator[npt.NDArray[np.generic]]:
        source = _Source(self._piece, self._dtype)
        elements = source.elements
        for turn in self._turns:
            elements = elements.reshape(turn.dims).transpose(turn.perm)
        for block in _blocks_of(elements):
            yield self._scaled(source.copy(block))

    def _scaled(self, block: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        if self._scale == 1.0:
            return block
        return (block.astype(np.float64) * self._scale).astype(self._dtype)


def _blocks_of(elements: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.generic]]:
    """Cut an array into parts that follow each other in C order, each of bounded size."""
    if elements.nbytes <= _BLOCK_BYTES or elements.ndim == 0:
        yield elements
        return
    row_bytes = elements.nbytes // len(elements)
    if row_bytes > _BLOCK_BYTES:
        for row in elements:
            yield from _blocks_of(row)
        return
    rows = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, len(elements), rows):
        yield elements[start : start + rows]


class _Source:
    """A range of a file, mapped into memory, of which nothing stays there that was read.

    Args:
        piece: The range.
        dtype: Type of the elements.
    """

    def __init__(self, piece: ExternalRange, dtype: np.dtype[np.generic]) -> None:
        start = piece.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        skipped = piece.offset - start
        with piece.path.open("rb") as stream:
            self._mapping = mmap.mmap(
                stream.fileno(), skipped + piece.size_bytes, access=mmap.ACCESS_READ, offset=start
            )
        # The mapping ends with the last array on it.
        self.elements: npt.NDArray[np.generic] = np.frombuffer(self._mapping, dtype, offset=skipped)

    def copy(self, block: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Copy a part of the range, in strips that are read as they lie and turned in the cache."""
        result = np.empty(block.shape, block.dtype)
        if not block.ndim:
            result[...] = block
            return result
        order = np.argsort([-abs(stride) for stride in block.strides], kind="stable")
        source, target = block.transpose(order), result.transpose(order)
        step = max(1, _STRIP_BYTES // max(1, source[0].nbytes))
        read_bytes = 0
        for start in range(0, len(source), step):
            strip = np.ascontiguousarray(source[start : start + step])
            target[start : start + step] = strip
            read_bytes += len(strip) * abs(source.strides[0])
            if read_bytes > _BLOCK_BYTES:
                self._forget()
                read_bytes = 0
        self._forget()
        return result

    def _forget(self) -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)
