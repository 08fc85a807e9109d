"""Arrays on disk between the reference and the runtimes, so that memory does not grow with sizes.

The reference answers once for each case, and every runtime reads those answers, in this process
or in another: arrays are the only thing that crosses, as plain `.npy` files in a private temporary
folder. The images lie there too, made once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from anysize.validators.cases import Case

__all__ = ["Spool"]

Array = NDArray[np.generic]


class Spool:
    """A folder of arrays, keyed by case and label; removed on leaving the `with` block."""

    def __init__(self, folder: Path | None = None) -> None:
        self._owned = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="anysize-"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._owned:
            shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, case: Case, label: str, arrays: Sequence[Array]) -> None:
        """Store `arrays` under `label`, replacing what stood there."""
        self.remove(case, label)
        for place, array in enumerate(arrays):
            np.save(self._path(case, label, place), array, allow_pickle=False)

    def files(self, case: Case, label: str) -> tuple[Path, ...]:
        """Return the files stored under `label`, in their order; () where there are none."""
        found: list[Path] = []
        while (path := self._path(case, label, len(found))).exists():
            found.append(path)
        return tuple(found)

    def read(self, case: Case, label: str) -> tuple[Array, ...]:
        """Read the arrays stored under `label`, in their order; () where there are none."""
        return tuple(np.load(path, allow_pickle=False) for path in self.files(case, label))

    def remove(self, case: Case, label: str) -> None:
        """Forget what is stored under `label`."""
        for path in self.files(case, label):
            path.unlink()

    def _path(self, case: Case, label: str, place: int) -> Path:
        name = f"{case.size}-b{case.batch}{'-bright' if case.is_bright else ''}"
        return self.folder / f"{name}-{label}-{place}.npy"
