"""Options that several commands share as one value: a parameter that is a dataclass of options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

__all__ = ["grouped"]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command for typer, which has the fields of each dataclass among its parameters."""
    own = inspect.signature(command, eval_str=True).parameters
    groups = {
        name: inspect.signature(one.annotation, eval_str=True).parameters
        for name, one in own.items()
        if isinstance(one.annotation, type) and is_dataclass(one.annotation)
    }
    options = [
        option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in own.items()
        for option in (groups[name].values() if name in groups else (one,))
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, fields in groups.items():
            given[name] = own[name].annotation(**{field: given.pop(field) for field in fields})
        command(**given)

    run.__annotations__ = {option.name: option.annotation for option in options}
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # typer reads both
    return run
