"""The commands in one table."""

from __future__ import annotations

from typing import Annotated

import typer

from anysize.cli.console import result
from anysize.cli.demo import demo
from anysize.cli.evaluate import benchmark, evaluate
from anysize.cli.exit_codes import exit_code_of
from anysize.cli.export import export
from anysize.cli.heatmap import heatmap
from anysize.cli.inspect import inspect
from anysize.cli.matrix import matrix
from anysize.cli.report import report
from anysize.cli.rewrite import rewrite
from anysize.cli.runtimes import runtimes
from anysize.cli.validate import validate
from anysize.version import VERSION

__all__ = ["app", "run"]

_COMMANDS = (
    *(inspect, export, rewrite, validate, evaluate, benchmark),
    *(matrix, report, heatmap, runtimes, demo),
)
_DEBUG = "--debug"

app = typer.Typer(
    name="anysize",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        result(f"anysize {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option(_DEBUG, help="Show the traceback of an error; may stand anywhere.")
    ] = False,
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
    del debug, version  # run() takes --debug out, wherever it stands


for _command in _COMMANDS:
    app.command()(_command)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are one line on stderr."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words = [word for word in arguments[:end] if word != _DEBUG] + arguments[end:]
    return exit_code_of(
        lambda: app(words, prog_name="anysize", standalone_mode=False),
        debug=len(words) < len(arguments),
    )
