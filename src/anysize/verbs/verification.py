"""How much a verb compares before its file appears."""

from __future__ import annotations

from typing import Literal

from anysize.errors import UsageError

__all__ = ["UNPROVED", "Verify", "to_verify"]

Verify = Literal["quick", "full", "off"]

# What a message offers where a proof cannot be had.
UNPROVED = "--verify off writes the file without a proof"


def to_verify(verify: object) -> Verify:
    """Read how much to compare; True is the default, `quick`, and False is `off`.

    Raises:
        UsageError: It is none of them.
    """
    if verify is True or verify == "quick":
        return "quick"
    if verify is False or verify == "off":
        return "off"
    if verify == "full":
        return "full"
    raise UsageError(f"verify {verify!r}: expected quick, full or off")
