"""A model out of the user's own Python code: `package.module:name`, or `folder/file.py:name`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import operator
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from anysize.errors import SourceError
from anysize.words import cleaned

__all__ = ["checked_module", "from_user_code", "why"]

_FILE = ".py"


def from_user_code(
    home: str, name: str, arguments: Mapping[str, object], *, seed: int
) -> nn.Module:
    """Import a module or run a file, and return the `nn.Module` of a name in it.

    Args:
        home: A module as it is imported, or the path of a Python file. The working folder is on
            `sys.path` meanwhile, and so is the folder of the file.
        name: An `nn.Module`, or what returns one when it is called.
        arguments: What that is called with.
        seed: Seeds what it draws.

    Raises:
        SourceError: There is no such module, or its code fails.
    """
    source = f"{home}:{name}"
    file = Path(home).absolute() if home.endswith(_FILE) else None
    with _on_path(Path.cwd(), *([file.parent] if file else [])):
        try:
            found = _run_file(file) if file else importlib.import_module(home)
        # The user's module may raise anything, SystemExit included.
        except (Exception, SystemExit) as exc:
            raise SourceError(f"model {source}: importing {home} failed: {why(exc)}") from exc
        try:
            make = operator.attrgetter(name)(found)
        except AttributeError as exc:
            kind = "file" if file else "module"
            raise SourceError(f"model {source}: {kind} {home} has no attribute {name!r}") from exc
        if isinstance(make, nn.Module) and not arguments:
            return make
        if not callable(make) or isinstance(make, nn.Module):
            raise SourceError(
                f"model {source}: is a {type(make).__name__}, expected a callable that returns "
                f"an nn.Module{', since arguments are given' if arguments else ''}"
            )
        # A module draws numbers when it is first imported, perhaps; the model starts afresh.
        torch.default_generator.manual_seed(seed)
        try:
            module = make(**arguments)
        except (Exception, SystemExit) as exc:
            how = f"with {', '.join(arguments)}" if arguments else "without arguments"
            hint = "; give --model-args" if isinstance(exc, TypeError) and not arguments else ""
            raise SourceError(f"model {source}: calling it {how} failed: {why(exc)}{hint}") from exc
    return checked_module(module, source)


def checked_module(module: object, source: str) -> nn.Module:
    """Return what a source made, which must be an `nn.Module`."""
    if not isinstance(module, nn.Module):
        raise SourceError(
            f"model {source}: returned a {type(module).__name__}, expected an nn.Module"
        )
    return module


def why(exc: BaseException) -> str:
    """Return the kind of an exception and the first line of its words."""
    lines = str(exc).strip().splitlines()
    return f"{type(exc).__name__}: {cleaned(lines[0])}" if lines else type(exc).__name__


def _run_file(file: Path) -> ModuleType:
    """Run a file as a module of a name that no installed one has, such as `types.py`."""
    name = f"anysize_source_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _on_path(*folders: Path) -> Iterator[None]:
    names = list(dict.fromkeys(map(str, folders)))
    sys.path[:0] = names
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name in names:
            with contextlib.suppress(ValueError):  # the user's module may have taken it off itself
                sys.path.remove(name)
