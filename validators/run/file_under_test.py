"""The file under test: read once, and the same one from the first run to the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import ModelFileError
from anysize.files import file_sha256
from anysize.sizes import SizeRange
from anysize.validators.report import ModelRecord

if TYPE_CHECKING:
    import onnx

    from anysize.surgery import FileMetadata

__all__ = ["FileUnderTest"]

_FLOAT, _FLOAT16 = 1, 10  # onnx.TensorProto.FLOAT, FLOAT16


@dataclass(frozen=True, slots=True)
class FileUnderTest:
    """An ONNX file to be validated.

    Attributes:
        path: Where it lies.
        model: The graph in it; weights in other files are not loaded.
        metadata: What it says of itself.
        sha256: The file's hash, in hexadecimal digits.
        files: Numbers, sizes and times of the files that it consists of.
    """

    path: Path
    model: onnx.ModelProto
    metadata: FileMetadata
    sha256: str
    files: tuple[tuple[int, ...], ...]

    @classmethod
    def read(cls, path: Path) -> FileUnderTest:
        """Read a file, and check what can be checked without running it.

        Raises:
            ModelFileError: It is unreadable, invalid or unsafe.
        """
        from anysize.surgery import load_model, read_metadata

        model = load_model(path, weights="in_file")
        return cls(path, model, read_metadata(model), file_sha256(path), _files(path, model))

    @property
    def declared(self) -> SizeRange | None:
        """The sizes that the file declares legal, if it declares any."""
        return self.metadata.sizes

    def asked_batches(self, batches: Sequence[int] | int) -> Sequence[int] | int:
        """Leave out numbers of images that the user of the export did not want it to take.

        All are kept where none is left, and where the file does not declare a number.
        """
        from anysize.surgery import fixed_axes

        wanted = self.metadata.asked_batch
        if wanted is None or isinstance(batches, int) or wanted not in batches:
            return batches
        return (wanted,) if "batch" in fixed_axes(self.model) else batches

    @property
    def is_quantised(self) -> bool:
        """Whether it rounds what it computes to few bits."""
        from anysize.validators.references.graph import is_quantised

        return is_quantised(self.model)

    @property
    def has_float16(self) -> bool:
        """Whether most weights are in half precision: a file's word alone buys no larger budget."""
        counts = {_FLOAT16: 0, _FLOAT: 0}
        read = {name for node in self.model.graph.node for name in node.input}
        for tensor in self.model.graph.initializer:
            if tensor.name in read and tensor.data_type in counts:
                counts[tensor.data_type] += math.prod(tensor.dims)
        return counts[_FLOAT16] > counts[_FLOAT]

    def require_unchanged(self) -> None:
        """Refuse a verdict on a file that is not the one that was read.

        Raises:
            ModelFileError: The file, or one with its weights, is another one now.
        """
        if _files(self.path, self.model) != self.files:
            raise ModelFileError(f"{self.path}: changed while it was validated; run again")

    def record(self) -> ModelRecord:
        """Describe the file in a report."""
        from anysize.surgery.graph import opset_version

        return ModelRecord(
            path=self.path.as_posix(),
            sha256=self.sha256,
            opset=opset_version(self.model),
            head=self.metadata.head,
            min_size=self.metadata.min_size,
            max_size=self.metadata.max_size,
        )


def _files(path: Path, model: onnx.ModelProto) -> tuple[tuple[int, ...], ...]:
    """Identify the file as it is now, and those of its external weights."""
    from anysize.surgery.storage import Place, all_tensors, place_of

    names = {
        entry.value
        for tensor in all_tensors(model)
        if place_of(tensor) is Place.OTHER_FILE
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(map(_identity, (path, *(path.parent / name for name in sorted(names)))))


def _identity(file: Path) -> tuple[int, ...]:
    """Return what changes with a file; nothing of one that is gone."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns)
