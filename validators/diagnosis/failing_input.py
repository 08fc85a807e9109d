"""The images of a failing cell as an `.npz` file, written and read back."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anysize.errors import UsageError
from anysize.files import atomic_output
from anysize.words import one_line

__all__ = ["load_inputs", "save_inputs"]

Array = NDArray[np.generic]

# A compressed file may claim any size.
_MAX_BYTES = 4 << 30
# RuntimeError: it is encrypted, or compressed in a way that Python lacks.
_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error
)  # fmt: skip


def save_inputs(inputs: Mapping[str, Array], path: Path) -> None:
    """Write the inputs of a graph, by name; the file appears whole or not at all."""
    with atomic_output(path) as stream:
        np.savez(stream, allow_pickle=False, **dict(inputs))


def load_inputs(path: Path) -> dict[str, Array]:
    """Read what `save_inputs` wrote.

    Raises:
        UsageError: The file is unreadable, no regular file, too large, or holds something else
            than numbers.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise UsageError(f"inputs {path}: is no regular file; expected an .npz file of arrays")
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > _MAX_BYTES:
            raise UsageError(f"inputs {path}: {claimed} bytes, expected at most {_MAX_BYTES}")
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: np.asarray(content[name]) for name in content.files}
    except _UNREADABLE as exc:
        raise UsageError(
            f"inputs {path}: cannot be read ({one_line(exc)}); expected an .npz file of arrays"
        ) from exc
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise UsageError(f"inputs {path}: cannot be read: {name!r} holds no numbers")
    return arrays
