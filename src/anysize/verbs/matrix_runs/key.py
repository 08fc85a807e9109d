"""What a job of a matrix depends on: settings, files, Python sources, installed packages."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import platform
import re
import secrets
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from itertools import islice
from pathlib import Path

import msgspec

from anysize.errors import ModelFileError
from anysize.files import file_sha256
from anysize.sources import canonical_source, is_of_zoo
from anysize.verbs.matrix_runs.plan import Job

__all__ = ["input_files", "installed_versions", "job_keys"]

# A package of more files than this is not read.
_MOST_SOURCES = 10_000
_LIBRARIES = ("torchvision", "timm")
_INSTALLED = {"site-packages", "dist-packages"}
_IMPORTS = re.compile(
    r"(?:^|[;:])[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+(\w[\w., \t]*))", re.MULTILINE
)


def job_keys(jobs: Iterable[Job], environment: Sequence[str] = ()) -> dict[Job, str]:
    """Return for each job a hash of what its verdicts depend on: settings, files and packages.

    Files that a Python source reads by itself are not seen. A job of more Python files than are
    read gets another key each time.

    Args:
        jobs: Some jobs.
        environment: What `installed_versions` returned; to find it out takes a tenth of a second.
    """
    environment = environment or installed_versions()
    return {job: _key(job, environment) for job in jobs}


def _key(job: Job, environment: Sequence[str]) -> str:
    files = input_files(job)
    if len(files) > _MOST_SOURCES:
        return secrets.token_hex(12)
    contents = sorted((str(path), _digest(path)) for path in files)
    text = msgspec.json.encode([job, contents, environment], order="sorted")
    return hashlib.sha256(text).hexdigest()[:24]


def input_files(job: Job) -> tuple[Path, ...]:
    """Return the files that a job reads and that exist.

    They are models with their external weights, a checkpoint, and for a SOURCE of the user's own
    the Python files of its module, or package, and of those that it imports and that are not
    installed.
    """
    from anysize.surgery import model_files

    found: list[Path] = []
    model = job.model
    for name in (model.file, model.reference):
        if name and (name == model.file or name.endswith(".onnx")):
            found.extend(model_files(name))
    if model.weights:
        found.append(Path(model.weights))
    for source in (model.source, model.reference or _named_source(model.file)):
        found.extend(_source_files(source))
    return tuple(path for path in dict.fromkeys(found) if _is_file(path))


def _named_source(file: str) -> str:
    """Return the SOURCE that a file says it is, which is its reference where none is given."""
    from anysize.surgery import load_model, read_metadata

    if not file:
        return ""
    try:
        return read_metadata(load_model(file, weights="in_file")).model or ""
    except ModelFileError:  # the job itself will say so
        return ""


def _source_files(source: str) -> list[Path]:
    if not source or source.endswith(".onnx") or is_of_zoo(source):
        return []
    package, _, _ = canonical_source(source).rpartition(":")
    if package.partition(":")[0] in _LIBRARIES:
        return []
    file = Path(package) if package.endswith(".py") else None
    name = file.stem if file else package.partition(".")[0]
    found = _python_files(name, [str(file.parent.absolute())] if file else [])
    return list(islice(found, _MOST_SOURCES + 1))


def _python_files(name: str, folders: Sequence[str]) -> Iterator[Path]:
    """Yield the files of a top-level module and of those it imports; nothing is imported here.

    Args:
        name: Of the module.
        folders: Where it is looked for first.
    """
    importlib.invalidate_caches()
    search = [*folders, str(Path.cwd()), *sys.path]
    waiting, seen = [name], {name}
    while waiting:
        module = waiting.pop()
        spec = _spec(module, search)
        if spec is None or (_is_installed(spec) and module != name):
            continue
        for path in _files(spec):
            yield path
            if not _is_installed(spec):
                new = _imported(path) - seen - {"anysize"}
                seen |= new
                waiting.extend(new)


def _spec(name: str, search: Sequence[str]) -> ModuleSpec | None:
    try:
        return PathFinder.find_spec(name, search) or importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # no name of a module
        return None


def _is_installed(spec: ModuleSpec) -> bool:
    """Say whether a module is Python's own, or a package's with a version."""
    places = [
        Path(place) for place in (spec.origin, *(spec.submodule_search_locations or ())) if place
    ]
    own = sysconfig.get_path("stdlib")
    return any(place.is_relative_to(own) or {*place.parts} & _INSTALLED for place in places)


def _files(spec: ModuleSpec) -> Iterator[Path]:
    if spec.submodule_search_locations is None:
        yield Path(spec.origin or "")
        return
    for folder in spec.submodule_search_locations:
        yield from Path(folder).rglob("*.py")


def _imported(path: Path) -> set[str]:
    """Return the top-level names that a file imports, and perhaps some that it only speaks of."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return set()
    lists = (first or others for first, others in _IMPORTS.findall(text))
    names = (name.strip() for one in lists for name in one.split(","))
    return {re.split(r"[.\s]", name)[0] for name in names} - {""}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its name is too long, for example
        return False


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:  # the job itself will say so
        return ""


def installed_versions() -> list[str]:
    """Name Python, the kind of machine, and every installed package with its version."""
    return [sys.version, platform.system(), platform.machine(), *sorted(set(_packages()))]


def _packages() -> Iterator[str]:
    # setuptools and ray put packages of their own there when they are imported.
    search = [entry for entry in sys.path if not {*Path(entry).parent.parts} & _INSTALLED]
    for found in metadata.distributions(path=search):
        try:
            yield f"{found.metadata['Name']} {found.version}"
        except (TypeError, KeyError, OSError):  # a folder that pip left behind, with nothing in it
            continue
