"""`anysize matrix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from anysize.cli.console import progress
from anysize.cli.report_files import Html, Json, Junit, Markdown, ReportFiles

__all__ = ["matrix"]


def matrix(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml")],
    jobs: Annotated[int, typer.Option(min=1, help="Jobs at once.")] = 1,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local processes, or ray for the machines of a cluster."),
    ] = "local",
    resume: Annotated[
        bool, typer.Option("--resume", help="Take over reports of jobs that have not changed.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keeps each job's report; CONFIG.reports by default."),
    ] = None,
    json: Json = None,
    junit: Junit = None,
    markdown: Markdown = None,
    html: Html = None,
) -> None:
    """Validate models × heads × runtimes × sizes as a TOML file says, in processes."""
    from anysize.verbs.matrix import matrix as run

    files = ReportFiles(json, junit, markdown, html)
    files.check([config])
    with progress() as show:
        joined = run(
            config,
            jobs=jobs,
            engine=engine,
            resume=resume,
            folder=folder,
            check=files.check,
            progress=show,
        )
    files.finish(joined)
