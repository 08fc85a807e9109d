"""The options that write reports to files, the same for every command that has a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from anysize.cli.console import result, results_console
from anysize.cli.options import REPORT
from anysize.errors import UsageError

if TYPE_CHECKING:
    from anysize.validators import JoinedReport, Report
    from anysize.validators.evaluation import Evaluation

__all__ = ["ReportFiles", "ResultFiles"]


@dataclass(frozen=True, slots=True)
class ResultFiles:
    """Where a command's result goes, besides the terminal."""

    json: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-", help="Write the report as JSON; - is stdout.", rich_help_panel=REPORT
        ),
    ] = None
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the report as one self-contained HTML page.",
            rich_help_panel=REPORT,
        ),
    ] = None

    @property
    def is_json_on_stdout(self) -> bool:
        """Whether stdout is for the JSON and nothing else."""
        return self.json == "-"

    def check(self, inputs: Sequence[Path]) -> None:
        """Refuse what cannot be written, before any work is done for it.

        Raises:
            UsageError: A path is empty, cannot be written, is one of `inputs` or is named twice,
                or the page needs a package that is missing.
        """
        from anysize.files import check_output_path

        if self.json == "":
            raise UsageError("--json '': expected the name of a file, or - for stdout")
        seen: dict[Path, str] = {}
        for option, path in self._named():
            if path == Path("-"):
                raise UsageError(f"--{option} -: only --json writes to stdout; name a file")
            check_output_path(path, inputs=inputs)
            other = seen.setdefault(path.resolve(), option)
            if other != option:
                raise UsageError(f"--{other} and --{option} both name {path}; choose two files")
        if self.html is not None:
            from anysize.validators.report.page import require_jinja

            require_jinja()

    @property
    def names_any(self) -> bool:
        """Whether a file is to be written."""
        return bool(self._named())

    def write(self, report: Report | JoinedReport | Evaluation) -> None:
        """Write every file that was asked for, each whole or not at all."""
        from anysize.files import atomic_output

        for option, path in self._named():
            with atomic_output(path) as stream:
                text: str = getattr(report, f"to_{option}")() + ("\n" if option == "json" else "")
                # A path that is not UTF-8 may stand in a report.
                stream.write(text.encode(errors="backslashreplace"))

    def _named(self) -> list[tuple[str, Path]]:
        named = {one.name: getattr(self, one.name) for one in fields(self)}
        return [
            (option, Path(path))
            for option, path in named.items()
            if path is not None and (option, path) != ("json", "-")
        ]


@dataclass(frozen=True, slots=True)
class ReportFiles(ResultFiles):
    """Where the report of a validation goes, besides the terminal."""

    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report as JUnit XML.", rich_help_panel=REPORT),
    ] = None
    markdown: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report as Markdown.", rich_help_panel=REPORT),
    ] = None

    def finish(self, report: Report | JoinedReport) -> NoReturn:
        """Write the files, show the report, and exit with what it adds up to."""
        self.write(report)
        if self.is_json_on_stdout:
            result(report.to_json())
        else:
            from anysize.validators.report import join, joined_table

            console = results_console()
            console.print(joined_table(join((report,)), console.width))
        raise typer.Exit(report.exit_code)
