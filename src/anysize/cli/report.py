"""`anysize report`."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from anysize.cli.console import result
from anysize.cli.report_files import Html, Json, Junit, Markdown, ReportFiles
from anysize.errors import UsageError

__all__ = ["report"]


def report(
    reports: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="REPORT.json...", help="Files that --json wrote.", show_default=False
        ),
    ] = None,
    json: Json = None,
    junit: Junit = None,
    markdown: Markdown = None,
    html: Html = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of reports instead.")
    ] = False,
) -> None:
    """Join reports and draw them again; exits with what they add up to."""
    if schema:
        from anysize.validators.report import report_schema

        result(json_format.dumps(report_schema(), indent=2, sort_keys=True))
        return
    if not reports:
        raise UsageError("no report to draw; give files that `anysize validate --json` wrote")
    from anysize.verbs.report import report as run

    files = ReportFiles(json, junit, markdown, html)
    files.check(reports)
    files.finish(run(*reports))
