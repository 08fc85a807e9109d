"""The command line: one command per file, thin over `anysize.verbs`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: all that was asked holds. 1: a comparison failed. 2: usage, or an input that cannot be
    used. 3: something asked for did not run.
    """
    try:
        from anysize.cli.app import run
    except KeyboardInterrupt:  # within the first tenth of a second
        return 130

    return run(sys.argv[1:] if arguments is None else arguments)
