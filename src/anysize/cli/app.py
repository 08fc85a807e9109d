"""The commands in one table, and the one place where errors become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from anysize import __version__
from anysize.cli.console import note
from anysize.cli.demo import demo
from anysize.cli.export import export
from anysize.cli.heatmap import heatmap
from anysize.cli.inspect import inspect
from anysize.cli.rewrite import rewrite
from anysize.cli.runtimes import runtimes
from anysize.cli.validate import validate
from anysize.errors import AnysizeError

__all__ = ["app", "run"]

_COMMANDS = (inspect, export, rewrite, validate, heatmap, runtimes, demo)
# What a shell gives for a program ended by Ctrl-C.
_INTERRUPTED = 130

app = typer.Typer(
    name="anysize",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"anysize {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Ship a CNN classifier as an ONNX graph that takes any image size, and prove that it is right.

    Exit codes: 0 all that was asked holds, 1 a comparison failed, 2 usage or an input that cannot
    be used, 3 something asked for did not run.
    """
    del debug, version  # read from the arguments by run(), which sees errors of parsing as well


for _command in _COMMANDS:
    app.command()(_command)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are one line on stderr."""
    debug = "--debug" in arguments
    try:
        code = app(arguments, standalone_mode=False)
    except AnysizeError as error:
        if debug:
            raise
        note(f"anysize: error: {' '.join(str(error).split())}")
        return error.exit_code
    except TyperException as error:
        if error.format_message():  # empty where help was printed because nothing was asked
            note(f"anysize: error: {' '.join(error.format_message().split())}")
        return 2
    except (Abort, KeyboardInterrupt):
        note("anysize: interrupted; no output file was changed")
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our stdout is gone (`anysize … | head`); nothing is left to say.
        sys.stderr.close()
        return 2
    except MemoryError:
        note("anysize: error: out of memory; try smaller sizes or fewer runtimes")
        return 2
    except Exception as error:  # a bug of ours: say so in one line, keep the promise of exit 2
        if debug:
            raise
        kind, text = type(error).__name__, " ".join(str(error).split())
        note(f"anysize: internal error: {kind}: {text}; run again with --debug and report it")
        return 2
    return code if isinstance(code, int) else 0
