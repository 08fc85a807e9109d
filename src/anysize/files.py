"""Input files that are read within bounds, and output files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from anysize.errors import UsageError

__all__ = [
    "atomic_output",
    "check_output_path",
    "file_sha256",
    "made_folder",
    "read_regular",
    "remove_partial",
    "staged_output",
]

_SUFFIX = ".partial"
# A name may have 255 bytes, and mkstemp adds to it.
_KEPT_LETTERS = 50


def read_regular(path: Path, *, most: int) -> bytes:
    """Read a whole file, and never wait for a pipe or read a device without end.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        UsageError: It cannot be read, is no regular file, or is larger. The message does not
            name the file.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UsageError("is a device or a pipe, expected a regular file")
            content = stream.read(most + 1)
    except OSError as error:
        raise UsageError(error.strerror or str(error)) from error
    except ValueError as error:  # a NUL in the name
        raise UsageError(str(error)) from error
    if len(content) > most:
        raise UsageError(f"is larger than {most} bytes, the most that is read")
    return content


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def made_folder(folder: Path) -> Path:
    """Return a folder to keep files in, which is made where it does not exist.

    Raises:
        UsageError: It cannot be made.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"folder {folder}: cannot be made: {error.strerror}") from error
    return folder


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe is not waited for until somebody writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_output_path(path: Path, *, inputs: Iterable[Path] = ()) -> None:
    """Refuse an output path that cannot be written, before any work is done for it.

    Args:
        path: The file to be written.
        inputs: Files that must stay as they are; one that does not exist is passed over.

    Raises:
        UsageError: The folder does not exist or is not writable, or the path is a folder, a
            device, a pipe, a symbolic link to itself, or one of `inputs`.
    """
    try:
        if path.is_dir():
            raise UsageError(f"output {path}: is a folder; name a file in it")
        if not path.parent.is_dir():
            raise UsageError(f"output {path}: folder {path.parent} does not exist; create it first")
        if (path.exists() and not path.is_file()) or _is_stream(path):
            # Renaming over it would put a file in the place of /dev/null or /dev/stdout.
            raise UsageError(f"output {path}: is a device or a pipe; name a regular file")
        with contextlib.suppress(FileNotFoundError):
            path.stat()  # unlike `exists`, it tells of links that lead to themselves
        overwritten = [one for one in inputs if one.exists() and path.exists()]
        overwritten = [one for one in overwritten if one.samefile(path)]
    except OSError as error:
        raise UsageError(f"output {path}: cannot be written: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"output {path}: cannot be written: {error}") from error
    if overwritten:
        raise UsageError(
            f"output {path}: would overwrite the input {overwritten[0]}; choose another name"
        )
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"output {path}: folder {path.parent} is not writable")


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing, and rename it to `path` on success.

    On any exception, an interrupt included, the temporary file is removed and whatever stood at
    `path` is left as it was.

    Raises:
        UsageError: The path cannot be written.
    """
    check_output_path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=_prefix(path), suffix=_SUFFIX, dir=path.parent)
    except OSError as error:
        raise UsageError(f"output {path}: cannot be written: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            # No fsync: the promise is about interrupted programs, not about power cuts, and it
            # would double the time to write a file of weights.
            yield stream
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp gives 0600; users expect their umask
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def staged_output(path: Path) -> Iterator[Path]:
    """Yield a path of the same file name in a temporary folder beside `path`.

    What the block writes there (the file, and others beside it such as external data) is moved to
    the folder of `path` on success, `path` itself last; on any exception nothing is. So a file can
    be written, verified, and only then appear.

    Raises:
        UsageError: The path cannot be written.
    """
    check_output_path(path)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=_SUFFIX, dir=path.parent))
    except OSError as error:
        raise UsageError(f"output {path}: cannot be written: {error.strerror}") from error
    staged = folder / path.name
    try:
        yield staged
        for companion in sorted(folder.iterdir()):
            if companion != staged:
                companion.replace(path.parent / companion.name)
        staged.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_partial(path: Path) -> None:
    """Remove what a process that was killed left beside `path`, a file that it was to write."""
    for left in path.parent.glob(f"{glob.escape(_prefix(path))}*{_SUFFIX}"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _is_stream(path: Path) -> bool:
    """Say whether a path is one of the process's own streams, such as /dev/stdout."""
    return path.is_symlink() and path.absolute().parts[1:2] in {("dev",), ("proc",)}


def _prefix(path: Path) -> str:
    """Name a temporary file so that a user who finds one knows where it comes from."""
    return f".{path.name[:_KEPT_LETTERS]}."
