"""The bytes of weights, wherever they are: in a file, in a TensorProto, or in somebody's array.

protobuf copies what it is given. So a model that was just exported names its large weights only,
and the arrays of the module that they come from stand beside it until the file is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from anysize.errors import ModelFileError
from anysize.surgery.storage.external_data import external_range
from anysize.surgery.storage.permuted import PermutedWeight
from anysize.surgery.storage.tensors import (
    DATA_FIELDS,
    HELD,
    LARGE_BYTES,
    PLACE_KEY,
    Place,
    payload_bytes,
    place_of,
)

__all__ = [
    "HeldWeights",
    "LoadedWeight",
    "Payload",
    "WeightData",
    "WeightPlace",
    "load_tensor",
    "locate",
]


class Payload(Protocol):
    """The bytes of one weight, little-endian as ONNX stores them."""

    @property
    def size_bytes(self) -> int:
        """Their number."""

    def read(self) -> bytes:
        """Read them into memory."""

    def copy_to(self, stream: BinaryIO) -> None:
        """Append them to a file, without a copy of them all in memory where that can be."""


class WeightData(Protocol):
    """An array of somebody else's; the tensors of onnx_ir are such."""

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""

    def numpy(self) -> npt.NDArray[np.generic]:
        """Return it as an array."""

    def tobytes(self) -> bytes:
        """Return its elements as ONNX stores them."""


class HeldWeights:
    """Arrays that stand beside a model whose tensors name them."""

    def __init__(self) -> None:
        self._data: list[WeightData] = []

    def hold(self, tensor: onnx.TensorProto, data: WeightData) -> None:
        """Let `data` be the bytes of `tensor`, which then has none itself.

        Args:
            tensor: Edited in place; its name, type and dims stay.
            data: As many bytes as type and dims announce.
        """
        for field in (*DATA_FIELDS, "external_data"):
            tensor.ClearField(field)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="offset", value=str(len(self._data)))
        tensor.external_data.add(key=PLACE_KEY, value=HELD)
        self._data.append(data)

    def data(self, tensor: onnx.TensorProto) -> WeightData:
        """Return the array that a tensor names."""
        return self._data[int(tensor.external_data[0].value)]

    def set_data(self, tensor: onnx.TensorProto, array: npt.NDArray[np.generic]) -> None:
        """Give a tensor, in place, the elements of an array; a large one is held."""
        import onnx_ir as ir  # of what torch.onnx needs; a rewrite without torch does without it

        filled = ir.Tensor(np.ascontiguousarray(array))
        del tensor.dims[:]
        tensor.dims.extend(array.shape)
        tensor.data_type = filled.dtype.value
        if filled.nbytes >= LARGE_BYTES:
            self.hold(tensor, filled)
            return
        for field in (*DATA_FIELDS, "external_data", "data_location"):
            tensor.ClearField(field)
        tensor.raw_data = filled.tobytes()

    def array(self, tensor: onnx.TensorProto) -> npt.NDArray[np.generic]:
        """Return a tensor's elements, whether it is held or in memory."""
        if place_of(tensor) is Place.BESIDE:
            return self.data(tensor).numpy().reshape(tuple(tensor.dims))
        return onnx.numpy_helper.to_array(tensor)

    def load(self, model: onnx.ModelProto) -> None:
        """Bring every held initializer of a model into it, so that it stands for itself."""
        for tensor in model.graph.initializer:
            if place_of(tensor) is Place.BESIDE:
                load_tensor(tensor, self)


# Where the weights are that a model does not hold itself: the folder of its file, or its holder.
WeightPlace = Path | HeldWeights


def locate(tensor: onnx.TensorProto, place: WeightPlace | None) -> Payload:
    """Find the bytes of a tensor, and prove that they are as many as its dims announce.

    Args:
        tensor: Wherever its bytes are; with `raw_data` if they are in memory.
        place: Where the weights are that are not in memory; the current folder by default.

    Raises:
        ModelFileError: They are not where they should be.
    """
    kind = place_of(tensor)
    if kind is Place.MEMORY:
        return LoadedWeight(tensor)
    if kind is Place.BESIDE:
        if isinstance(place, HeldWeights):
            return _HeldWeight(tensor.name, place.data(tensor), payload_bytes(tensor))
        raise ModelFileError(f"tensor {tensor.name!r}: its holder is gone; export the model again")
    if isinstance(place, HeldWeights):
        raise ModelFileError(f"tensor {tensor.name!r}: is in a file, expected it in memory")
    folder = place or Path()
    if kind is Place.PERMUTED:
        return PermutedWeight(tensor, folder)
    return external_range(tensor, folder)


def load_tensor(tensor: onnx.TensorProto, place: WeightPlace) -> None:
    """Bring the bytes of a tensor that is not in memory into it.

    Raises:
        ModelFileError: They are not where they should be.
    """
    is_stated = place_of(tensor) is Place.OWN_FILE and tensor.external_data[-1].value == "stated"
    data = locate(tensor, place).read()
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = data
    if is_stated:
        tensor.data_location = onnx.TensorProto.DEFAULT


class LoadedWeight:
    """The raw data of a tensor, which protobuf hands out as a copy.

    Args:
        tensor: One with `raw_data`.
    """

    def __init__(self, tensor: onnx.TensorProto) -> None:
        self._tensor = tensor
        # The dims tell the number without such a copy.
        self.size_bytes = payload_bytes(tensor) or len(tensor.raw_data)

    def read(self) -> bytes:
        """Read the bytes.

        Raises:
            ModelFileError: They are not as many as the dims announce.
        """
        data: bytes = self._tensor.raw_data
        if len(data) != self.size_bytes:
            raise ModelFileError(
                f"tensor {self._tensor.name!r}: holds {len(data)} bytes, expected "
                f"{self.size_bytes} for shape {list(self._tensor.dims)}"
            )
        return data

    def copy_to(self, stream: BinaryIO) -> None:
        """Append the bytes to a file."""
        stream.write(self.read())


class _HeldWeight:
    """An array beside a model."""

    def __init__(self, name: str, data: WeightData, expected_bytes: int | None) -> None:
        if data.nbytes != expected_bytes:
            raise ModelFileError(
                f"tensor {name!r}: holds {data.nbytes} bytes, expected {expected_bytes}"
            )
        self._data = data
        self.size_bytes = data.nbytes

    def read(self) -> bytes:
        """Read the bytes."""
        return self._data.tobytes()

    def copy_to(self, stream: BinaryIO) -> None:
        """Append the bytes to a file, straight from the array where it can do that."""
        write = getattr(self._data, "tofile", None)  # not in onnx_ir's protocol, but in its classes
        if write is None:
            stream.write(self.read())
        else:
            write(stream)
