"""Importing what a name stands for when it is asked for, and not before."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["lazy_names", "load"]


def load(path: str) -> Any:
    """Import `module` and return its attribute, for a path `module:attribute`.

    Raises:
        ImportError: There is no such module.
        AttributeError: It has no such attribute.
    """
    module, _, attribute = path.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


def lazy_names(package: str, homes: Mapping[str, Iterable[str]]) -> Callable[[str], object]:
    """Make the `__getattr__` of a package whose names are imported at their first use.

    Args:
        package: Its `__name__`.
        homes: Module below the package → the names that live there.
    """
    paths = {name: f"{package}.{home}:{name}" for home, names in homes.items() for name in names}

    def get(name: str) -> object:
        if name not in paths:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = load(paths[name])
        vars(importlib.import_module(package))[name] = value
        return value

    return get
