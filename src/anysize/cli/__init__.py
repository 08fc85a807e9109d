"""The command line: one command per file, thin over `anysize.verbs`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: all that was asked holds. 1: a comparison failed. 2: usage, or an input that cannot be
    used. 3: something asked for did not run.

    Args:
        arguments: Run in this process; without them, those of the program, in a child of it.
    """
    try:
        from anysize.cli.app import run
        from anysize.cli.exit_codes import exit_code_of
        from anysize.cli.supervisor import supervised
    except KeyboardInterrupt:  # within the first tenth of a second
        return 130

    if arguments is not None:
        return run(arguments)
    return exit_code_of(lambda: supervised(lambda: run(sys.argv[1:])))
