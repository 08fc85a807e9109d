"""`anysize matrix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from anysize.cli.console import progress, result
from anysize.cli.options import schema_option
from anysize.cli.report_files import ReportFiles
from anysize.errors import UsageError

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
    plan: Annotated[
        bool,
        typer.Option("--plan", help="List the jobs, what stands in their way, and their time."),
    ] = False,
    schema: Annotated[
        bool, schema_option("anysize.verbs.matrix_runs.settings:matrix_schema")
    ] = False,
    *,
    files: ReportFiles,
) -> None:
    """Validate models × heads × runtimes × sizes as a TOML file says, in processes."""
    from anysize.verbs.matrix import matrix as run

    del schema  # its own callback printed it
    files.check([config])
    if plan:
        _show_plan(config, files, resume=resume, folder=folder)
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


def _show_plan(config: Path, files: ReportFiles, *, resume: bool, folder: Path | None) -> NoReturn:
    """Print the plan, as JSON for `--json -`, and exit with 2 where a job cannot be used."""
    from anysize.verbs.matrix import plan_matrix

    if files.names_any:
        raise UsageError("--plan: runs nothing that a report could be of; it takes --json - alone")
    planned = plan_matrix(config, resume=resume, folder=folder)
    result(planned.to_json() if files.is_json_on_stdout else planned.to_text())
    raise typer.Exit(planned.exit_code)
