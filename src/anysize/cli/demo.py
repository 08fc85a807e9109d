"""`anysize demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anysize.cli.console import finish, progress, results_console
from anysize.cli.options import JsonFlag

__all__ = ["demo"]


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The folder to write to; made if missing.")
    ] = Path("anysize-demo"),
    json: JsonFlag = False,
) -> None:
    """Show the whole product on a trained digits classifier: export, rewrite, prove, look."""
    from anysize.verbs.demo import demo as run

    with progress() as show:
        done = run(out, progress=show)
    if not json:
        done.print(results_console())
    finish(done, json=json)
    raise typer.Exit(done.exit_code)
