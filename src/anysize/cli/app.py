"""The commands in one table."""

from __future__ import annotations

from typing import Annotated

import typer

from anysize.cli.console import result, verbosity
from anysize.cli.demo import demo
from anysize.cli.evaluate import benchmark, evaluate
from anysize.cli.exit_codes import exit_code_of
from anysize.cli.export import export
from anysize.cli.grouped import grouped
from anysize.cli.heatmap import heatmap
from anysize.cli.inspect import inspect
from anysize.cli.matrix import matrix
from anysize.cli.profile import profile
from anysize.cli.report import report
from anysize.cli.rewrite import rewrite
from anysize.cli.runtimes import runtimes
from anysize.cli.validate import validate
from anysize.version import VERSION

__all__ = ["app", "run"]

_COMMANDS = (
    *(inspect, export, rewrite, validate, evaluate, benchmark),
    *(matrix, report, heatmap, profile, runtimes, demo),
)
_DEBUG = "--debug"
# They may stand anywhere, and change what is said beside results.
_VERBOSITY = {"-q": -1, "--quiet": -1, "-v": 1, "--verbose": 1}

app = typer.Typer(
    name="anysize",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        result(f"anysize {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show the traceback of an error.")] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Say nothing but results and errors.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say each step, and how long it took.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Ship a CNN classifier as an ONNX graph that takes any image size, and prove that it is right.

    Exit codes: 0 all that was asked holds; 1 a comparison failed;
    2 usage, or an input that cannot be used; 3 something did not run;
    130 interrupted by Ctrl-C. -q, -v and --debug may stand anywhere.
    """
    del debug, quiet, verbose, version  # run() takes them out, wherever they stand


for _command in _COMMANDS:
    app.command()(grouped(_command))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are one line on stderr."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    anywhere = [word for word in arguments[:end] if word == _DEBUG or word in _VERBOSITY]
    words = [word for word in arguments[:end] if word not in anywhere] + arguments[end:]
    said = verbosity.set(next((_VERBOSITY[w] for w in anywhere if w in _VERBOSITY), 0))
    try:
        return exit_code_of(
            lambda: app(words, prog_name="anysize", standalone_mode=False),
            debug=_DEBUG in anywhere,
        )
    finally:
        verbosity.reset(said)
