"""The names of a network's classes, as people keep them: a text file, one name a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from anysize.errors import UsageError
from anysize.files import read_regular

__all__ = ["check_class_names", "read_class_names"]

_MOST_BYTES = 16 << 20


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read a file of names, in the order of the network's outputs; empty lines at its end are none.

    Raises:
        UsageError: It cannot be read, is empty, or has a name twice or an empty line in between.
    """
    try:
        lines = read_regular(path, most=_MOST_BYTES).decode("utf-8-sig").rstrip().splitlines()
        return check_class_names([line.strip() for line in lines])
    except UnicodeDecodeError as exc:
        raise UsageError(f"classes {path}: is no text; expected one name a line") from exc
    except UsageError as exc:
        raise UsageError(f"classes {path}: {exc}") from exc


def check_class_names(names: Sequence[str], count: int | None = None) -> tuple[str, ...]:
    """Return names that can stand for outputs.

    Args:
        names: In the order of the outputs.
        count: How many outputs there are; None where it is not known.

    Raises:
        UsageError: There are none, one is empty or there twice, or there are more or less.
    """
    if not names or "" in names:
        raise UsageError("has no name, or an empty one; expected one name a line")
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise UsageError(f"{twice!r} is there twice; give each class a name of its own")
    if count not in (None, len(names)):
        raise UsageError(f"{len(names)} names for {count} outputs; give one for each, in order")
    return tuple(names)
