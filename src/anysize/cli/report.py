"""`anysize report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anysize.cli.options import schema_option
from anysize.cli.report_files import ReportFiles

__all__ = ["report"]


def report(
    reports: Annotated[
        list[Path], typer.Argument(metavar="REPORT.json...", help="Files that --json wrote.")
    ],
    schema: Annotated[bool, schema_option("anysize.validators.report:report_schema")] = False,
    *,
    files: ReportFiles,
) -> None:
    """Join reports and draw them again; exits with what they add up to."""
    del schema  # its own callback printed it
    from anysize.verbs.report import report as run

    files.check(reports)
    files.finish(run(*reports))
