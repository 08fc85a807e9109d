"""`anysize demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anysize.cli.console import progress, result, results_console

__all__ = ["demo"]


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--out", help="The folder to write to; made if missing.")
    ] = Path("anysize-demo"),
) -> None:
    """Show the whole product on a trained digits classifier: export, rewrite, prove, look."""
    from anysize.verbs.demo import demo as run

    with progress() as show:
        done = run(output, progress=show)
    done.print(results_console())
    result(done.summary())
    raise typer.Exit(done.exit_code)
