"""The file of weights beside a model: under a name that no other model's weights have.

Two files cannot appear in one step. So the weights come first, under a new name, and the model,
which names them, is what commits: whatever ends the program in between, each model has its own
weights. Those of the model that stood there before go last.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from anysize.errors import ModelFileError
from anysize.files import staged_output
from anysize.surgery.storage.loading import load_model, model_files

__all__ = ["free_name", "replaced_weights", "staged_model"]


@contextlib.contextmanager
def staged_model(path: Path) -> Iterator[Path]:
    """Do what `staged_output` does, and then remove the weights of the model that stood there.

    Raises:
        UsageError: The path cannot be written.
    """
    with replaced_weights(path), staged_output(path) as staged:
        yield staged


@contextlib.contextmanager
def replaced_weights(path: Path) -> Iterator[None]:
    """Remove the weights that the model at `path` had before the block, where it succeeds.

    Only files that have a name of `free_name`'s, and that no model in the folder needs.
    """
    files = model_files(path) if path.exists() else ()
    before = [file for file in files[1:] if _is_own(file, path)]
    yield
    if not before:
        return
    try:
        needed = {file.resolve() for file in _needed(path)}
    except (ModelFileError, OSError):  # nobody knows what it needs
        return
    for file in before:
        if file.resolve() not in needed:
            file.unlink(missing_ok=True)


def free_name(path: Path) -> str:
    """Return a name for the weights of `path` that no file has: `<path>.data`, if it is free."""
    names = (f"{path.name}{'' if n == 1 else f'.{n}'}.data" for n in itertools.count(1))
    return next(name for name in names if not os.path.lexists(path.with_name(name)))


def _is_own(file: Path, path: Path) -> bool:
    name = file.name.removeprefix(path.name)
    is_beside = name != file.name and file.parent.resolve() == path.parent.resolve()
    return is_beside and re.fullmatch(r"(\.\d+)?\.data", name) is not None


def _needed(path: Path) -> Iterator[Path]:
    """Yield the files of all models in the folder of `path`."""
    for file in path.parent.iterdir():
        if file.suffix in {".onnx", path.suffix} and file.is_file():
            yield from model_files(file, load_model(file, weights="in_file"))
