"""Text of others on a terminal or a page: nothing in it that moves the cursor or hides letters."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return text on one line; what is not printable in it becomes a question mark.

    That are control characters, marks that turn the direction of writing, and halves of
    characters. Line breaks, tabs and unusual spaces become plain spaces.
    """
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text
    )
