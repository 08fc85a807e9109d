"""The files of the matrix: written by the first environment that asks for one, for all of them.

Files are the same whatever runs them, and to export one takes as long as to validate it. So they
are kept in the folder that the variable ANYSIZE_PARITY_FILES names, under a hash of all that writes
them; without the variable each run has a folder of its own.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

import anysize

__all__ = ["exported"]

VARIABLE = "ANYSIZE_PARITY_FILES"
OURS = (Path(__file__).parent, Path(__file__).parents[2] / "benchmarks" / "architectures")


def exported(name, source, **options):
    """Return an exported file, which must not be edited.

    Args:
        name: Of the file, without its ending.
        source: Makes what `anysize.export` is given; called only where the file is not there yet.
        **options: Of `anysize.export`.
    """
    path = _folder() / f"{name}.onnx"
    if not path.exists():
        new = path.with_name(f"{name}.{os.getpid()}.onnx")
        anysize.export(source(), new, verify=False, **options)
        new.replace(path)
    return path


@functools.cache
def _folder():
    given = os.environ.get(VARIABLE)
    if given is None:
        return Path(tempfile.mkdtemp(prefix="parity-"))
    folder = Path(given) / _fingerprint()
    for old in folder.parent.glob("*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fingerprint():
    """Hash everything that decides what a file holds."""
    whole = hashlib.sha256()
    for package in ("torch", "onnx", "onnxscript", "onnx-ir", "numpy"):
        whole.update(metadata.version(package).encode())
    folders = [*OURS, Path(importlib.util.find_spec("anysize").origin).parent]
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]
