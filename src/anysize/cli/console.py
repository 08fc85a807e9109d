"""Results to stdout, everything else to stderr; progress as a bar or as plain lines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Progress", "note", "progress", "result", "results_console"]

# done, total, what is being done; total 0 where it is not known.
Progress = Callable[[int, int, str], None]


def result(text: str) -> None:
    """Print a result."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Print what is not a result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def results_console() -> Console:
    """Return the rich console for tables on stdout; plain and wide where it is not a terminal."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, width=None if terminal else 160, soft_wrap=not terminal)


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Yield a callback that shows how far long work is: a bar on a terminal, else plain lines."""
    if not sys.stderr.isatty():
        last: list[str] = []

        def line(done: int, total: int, text: str) -> None:
            if [text] != last:
                last[:] = [text]
                note(f"[{done}/{total}] {text}" if total else text)

        yield line
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total or None, description=text)

        yield update
