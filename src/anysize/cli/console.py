"""Results to stdout, everything else to stderr; progress as a bar or as plain lines."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TextIO, cast

from anysize.as_json import as_json
from anysize.cli.supervisor import doing
from anysize.words import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Progress",
    "complain",
    "finish",
    "note",
    "progress",
    "result",
    "results_console",
    "verbosity",
]

# done, total, what is being done; total 0 where it is not known.
Progress = Callable[[int, int, str], None]

# What is said beside results and errors: −1 nothing, 0 notes and progress, 1 each step, with the
# seconds since the first.
verbosity: ContextVar[int] = ContextVar("verbosity", default=0)

# Work of many short steps says a line this often where there is no terminal, not one a step.
_SECONDS_BETWEEN_LINES = 2.0
_FEW_STEPS = 20
# Letters of our tables for an encoding that lacks them.
_PLAIN = {"×": "x", "≤": "<=", "—": "-", "–": "-", "…": "...", "✓": "+", "✕": "x", "⊘": "o"}


class _AnyEncoding:
    """A text stream that writes what its encoding lacks in other letters, and never fails at it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(_encodable(text, self._stream.encoding, likes=_PLAIN))

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def result(text: str) -> None:
    """Print a result; what the terminal's encoding lacks is escaped, as JSON does it."""
    if sys.stdout is not None:  # it is None where the shell closed it
        sys.stdout.write(_encodable(f"{text}\n", sys.stdout.encoding, likes={}))


class Finished(Protocol):
    """What a verb comes to."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know beside it."""
        ...

    def summary(self) -> str:
        """Return it in a few lines."""
        ...


def finish(done: Finished, *, json: bool) -> None:
    """Print what a verb comes to, as text behind its notes, or as JSON that has them in it."""
    if json:
        result(as_json(done))
        return
    for line in done.notes:
        note(line)
    result(done.summary())


def note(text: str) -> None:
    """Print one line that is neither a result nor an error, unless nothing is to be said."""
    if verbosity.get() >= 0:
        complain(text)


def complain(text: str) -> None:
    """Print one line to stderr; what is not printable in it becomes a question mark."""
    if sys.stderr is not None:
        line = printable(" ".join(text.split()))
        with contextlib.suppress(OSError):  # nobody is left to tell
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def results_console() -> Console:
    """Return the rich console for tables on stdout; plain and wide where it is not a terminal.

    An encoding that lacks a letter gets another one for it; the lines of tables are rich's to
    replace.
    """
    from rich.console import Console

    terminal = sys.stdout is not None and sys.stdout.isatty()
    stream = None if sys.stdout is None else cast("TextIO", _AnyEncoding(sys.stdout))
    return Console(file=stream, width=None if terminal else 160, soft_wrap=not terminal)


def _encodable(text: str, encoding: str | None, *, likes: Mapping[str, str]) -> str:
    """Replace what an encoding lacks: by letters that are like it, or by its code."""
    encoding = encoding or "utf-8"
    if _is_in(encoding, text):
        return text
    return "".join(
        letter if _is_in(encoding, letter) else likes.get(letter) or json.dumps(letter)[1:-1]
        for letter in text
    )


def _is_in(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Yield a callback that shows how far long work is: a bar on a terminal, else plain lines.

    Whatever others print to stdout meanwhile, such as a user's own module, goes to stderr: stdout
    is for results.
    """
    with _stdout_to_stderr():
        if verbosity.get() < 0:
            yield _supervised(_silent)
        elif verbosity.get() == 0 and sys.stderr is not None and sys.stderr.isatty():
            with _bar() as show:
                yield _supervised(show)
        else:
            yield _supervised(_lines())


def _silent(done: int, total: int, text: str) -> None:
    """Show nothing."""
    del done, total, text


def _supervised(show: Progress) -> Progress:
    def showing(done: int, total: int, text: str) -> None:
        doing(text)
        show(done, total, text)

    return showing


def _lines() -> Progress:
    """Return a callback that writes a line for a new kind of work, and then now and again."""
    last_total, last_text, last_time = -1, "", 0.0
    begun = monotonic()

    def show(done: int, total: int, text: str) -> None:
        nonlocal last_total, last_text, last_time
        now = monotonic()
        is_verbose = verbosity.get() > 0
        is_due = is_verbose or now - last_time >= _SECONDS_BETWEEN_LINES
        is_new = total != last_total or (total <= _FEW_STEPS and text != last_text)
        if is_new or is_due:
            last_total, last_text, last_time = total, text, now
            since = f"{now - begun:.1f} s " if is_verbose else ""
            note(f"{since}[{done}/{total}] {text}" if total else f"{since}{text}")

    return show


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    """Show a bar that is gone when the work is done or fails."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total or None, description=printable(text))

        yield show


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect stdout, Python's and the process's (C libraries, child processes), to stderr."""
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as undo:
        # A stream that is closed has no descriptor; then there is nothing to keep clean.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if sys.__stdout__ is not None:
                sys.__stdout__.flush()
            saved = os.dup(1)
            undo.callback(os.close, saved)
            os.dup2(2, 1)
            undo.callback(os.dup2, saved, 1)
        yield
