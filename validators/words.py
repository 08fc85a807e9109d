"""Words of others in our reports: on one line, printable, and of a readable length."""

from __future__ import annotations

__all__ = ["cleaned", "one_line"]

_MOST = 400


def cleaned(words: object, *, most: int = _MOST) -> str:
    """Return text on one line, without what a terminal or a file could trip over.

    Control characters and halves of characters become U+FFFD. Text that is too long is cut in the
    middle: a path and a template come first, what is wrong comes last.
    """
    text = str(words)
    if len(text) > 8 * most:  # a runtime may say megabytes
        text = f"{text[: 4 * most]} {text[-4 * most :]}"
    text = " ".join(text.split())
    if len(text) > most:
        text = f"{text[: most // 2]} … {text[-(most // 2) + 3 :]}"
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def one_line(exc: BaseException) -> str:
    """Return the words of an exception, or its name where it has none."""
    return cleaned(exc) or type(exc).__name__
