"""Arrays on disk between the reference and the runtimes, so that memory does not grow with sizes.

The reference answers once for each case, and every runtime reads those answers, in this process
or in another: arrays are the only thing that crosses, as plain `.npy` files in private temporary
folders. The images lie there too, made once, in a folder of their own: workers are told of that one
alone. A file that has changed since it was written is not believed.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from anysize.errors import NotRunError, UsageError
from anysize.validators.inputs import Case

__all__ = ["FLOAT32", "FLOAT64", "ROUNDED", "Spool", "answer_label"]

Array = NDArray[np.generic]

# The labels: what a runtime is given, and the reference's answers (with float16 weights: rounded).
_INPUTS, FLOAT32, FLOAT64, ROUNDED = "inputs", "float32", "float64", "rounded"


def answer_label(runtime: str) -> str:
    """Return the label of what a runtime answers."""
    return f"answer of {runtime}"


class Spool:
    """Folders of arrays, keyed by case and label; removed on leaving the `with` block."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        self._digests: dict[tuple[Case, str], list[bytes]] = {}
        self._inputs: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for folder in self._folders.values():
            shutil.rmtree(folder, ignore_errors=True)

    def write(self, case: Case, label: str, arrays: Sequence[Array]) -> None:
        """Store `arrays` under `label`, replacing what stood there.

        Raises:
            UsageError: The temporary folder is full.
        """
        self.remove(case, label)
        for place, array in enumerate(arrays):
            path = self._path(case, label, place)
            try:
                np.save(path, array, allow_pickle=False)
            except OSError as exc:  # NumPy says how many bytes it wrote, not why
                raise UsageError(
                    f"temporary folder {path.parent.parent}: {array.nbytes} bytes cannot be "
                    f"written ({exc.strerror or exc}); set TMPDIR to a folder with more space"
                ) from exc
            self._digests.setdefault((case, label), []).append(_digest(path))

    def files(self, case: Case, label: str) -> tuple[Path, ...]:
        """Return the files stored under `label`, in their order; () where there are none.

        Raises:
            NotRunError: One is not what was stored.
        """
        found = []
        for place, digest in enumerate(self._digests.get((case, label), ())):
            path = self._path(case, label, place)
            try:
                is_same = _digest(path) == digest
            except OSError:
                is_same = False
            if not is_same:
                raise NotRunError(
                    f"temporary file {path}: was changed by another process, which may be a "
                    "runtime; run again, without the runtimes that are not yours"
                )
            found.append(path)
        return tuple(found)

    def read(self, case: Case, label: str) -> tuple[Array, ...]:
        """Read the arrays stored under `label`, in their order; () where there are none."""
        return tuple(np.load(path, allow_pickle=False) for path in self.files(case, label))

    def write_inputs(self, case: Case, inputs: Mapping[str, Array]) -> None:
        """Store the inputs of a case; their names are the same ones for all cases."""
        self._inputs = tuple(inputs)
        self.write(case, _INPUTS, tuple(inputs.values()))

    def inputs(self, case: Case) -> dict[str, Array]:
        """Read the inputs of a case back, by the names of the graph's inputs."""
        return dict(zip(self._inputs, self.read(case, _INPUTS), strict=True))

    def input_files(self, case: Case) -> dict[str, Path]:
        """Tell in which `.npy` files the inputs of a case lie, by their names."""
        return dict(zip(self._inputs, self.files(case, _INPUTS), strict=True))

    def remove(self, case: Case, label: str) -> None:
        """Forget what is stored under `label`."""
        for place, _ in enumerate(self._digests.pop((case, label), ())):
            self._path(case, label, place).unlink(missing_ok=True)

    def _path(self, case: Case, label: str, place: int) -> Path:
        if label not in self._folders:
            self._folders[label] = Path(tempfile.mkdtemp(prefix="anysize-"))
        name = f"{case.size}-b{case.batch}{'-amplified' if case.is_amplified else ''}"
        return self._folders[label] / f"{name}-{place}.npy"


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").digest()
