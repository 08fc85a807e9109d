"""Words of others, in reports and on a terminal: printable, on one line, of a readable length."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence

__all__ = [
    "WITHOUT_ARBITER",
    "and_list",
    "cleaned",
    "duration_text",
    "ending",
    "one_line",
    "or_list",
    "printable",
    "shape_text",
    "shortened",
    "without_validate",
]

_MOST = 400
_MINUTES_FROM_S = 100.0
WITHOUT_ARBITER = "; give --arbiter none"
# Ways out that `anysize validate` has; a command that compares, too, and lacks them cuts them off.
_OF_VALIDATE = re.compile(
    r"; give (?:smaller |arrays with )?--(?:arbiter|batches|inputs|reference|sizes)\b.*?(?= \(|;|$)"
)


def printable(text: str) -> str:
    """Return text on one line; what is not printable in it becomes a question mark.

    That are control characters, marks that turn the direction of writing, and halves of
    characters. Line breaks, tabs and unusual spaces become plain spaces.
    """
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text
    )


def shortened(text: str, most: int) -> str:
    """Cut text that is too long in its middle.

    A path and a template come first, what is wrong comes last; a file may give its outputs names
    of megabytes.
    """
    return text if len(text) <= most else f"{text[: most // 2]} … {text[len(text) - most // 2 :]}"


def cleaned(words: object, *, most: int = _MOST) -> str:
    """Return words on one line, without what a terminal or a file could trip over."""
    text = shortened(str(words), 8 * most)  # a runtime may say megabytes
    return printable(shortened(" ".join(text.split()), most))


def without_validate(words: str) -> str:
    """Return words less the ways out that `anysize validate` alone has."""
    return _OF_VALIDATE.sub("", words)


def ending(returncode: int | None) -> str:
    """Say how a process ended, from what it returned: a signal is below 0, None no end at all."""
    if returncode is None:
        return "stopped answering"
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"died of {name}{', as when memory runs out' if name == 'SIGKILL' else ''}"


def one_line(exc: BaseException) -> str:
    """Return the words of an exception, or its name where it has none."""
    return cleaned(exc) or type(exc).__name__


def and_list(names: Sequence[str]) -> str:
    """Write names as `batch, height and width`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def duration_text(seconds: float) -> str:
    """Write a duration that is not exact, as `about 12 s` or `about 3 min`."""
    if seconds < _MINUTES_FROM_S:
        return f"about {max(seconds, 1.0):.0f} s"
    return f"about {seconds / 60:.0f} min"


def or_list(names: Sequence[str]) -> str:
    """Write names as `fcn, adaptive or resize`."""
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def shape_text(shape: Iterable[object]) -> str:
    """Write a shape as `(2, 3, 224, 224)`; its sides may be names."""
    return f"({', '.join(map(str, shape))})"
