"""The table on the terminal: sizes down, runtimes across, and a line for each failing cell."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from anysize.validators.report.joined import JoinedReport
from anysize.validators.report.levels import figure
from anysize.validators.report.report import Cell, Report, RuntimeRecord
from anysize.validators.report.reproduce import reproduce
from anysize.validators.verdicts import VERDICTS, Outcome, Verdict

__all__ = ["joined_table", "print_report", "report_table"]

# Below this the last column of the numbers does not fit.
_WIDE = 110
# Of a table: size and batch with their borders, and what a column has beside its text.
_SIZE_COLUMNS, _PADDING = 23, 3
_STYLES = {Outcome.GOOD: "green", Outcome.FAILED: "bold red", Outcome.NOT_RUN: "yellow"}


def print_report(report: Report, console: Console) -> None:
    """Print the table, the numbers behind it and the failing cells."""
    console.print(report_table(report, console.width))


def report_table(report: Report, width: int = 160) -> RenderableType:
    """Draw a report for a terminal of `width` columns; verdicts are words first, colours second."""
    parts: list[RenderableType] = [*_matrices(report, width), _legend(report)]
    parts.append(_numbers(report, is_wide=width >= _WIDE))
    if width < _WIDE:
        parts.append(_ran_on(report))
    failing = [cell for cell in report.cells if not cell.is_good]
    parts.extend(_story(report, cell) for cell in failing)
    parts.append(_conclusion(report))
    return Group(*parts)


def joined_table(joined: JoinedReport, width: int) -> RenderableType:
    """Draw each report, and what they add up to."""
    parts: list[RenderableType] = []
    for entry in joined.entries:
        if entry.report is not None:
            parts.append(report_table(entry.report, width))
        else:
            parts.append(Text(f"{entry.name}: {entry.error}", style=_STYLES[Outcome.FAILED]))
    if len(joined.entries) > 1:
        words = f"{len(joined.entries)} jobs: {joined.headline()}; {joined.reason()}"
        parts.append(Text(words, style="green" if joined.ok else "bold red"))
    return Group(*parts)


def _matrices(report: Report, width: int) -> list[Table]:
    """Draw the matrix, in several tables where all runtimes do not fit beside each other."""
    names = [runtime.name for runtime in report.runtimes]
    found = {(cell.size, cell.batch, cell.runtime): cell for cell in report.cells}
    rows = list(dict.fromkeys((cell.size, cell.batch) for cell in report.cells))
    columns = {
        name: [_verdict(found.get((size, batch, name))) for size, batch in rows] for name in names
    }
    title: str | None = f"{report.model.path} against {report.reference.name}"
    tables = []
    for group in _groups(columns, width - _SIZE_COLUMNS):
        table = Table(title=Text(title) if title else None, title_style="bold")
        table.add_column("size", justify="right", no_wrap=True)
        table.add_column("batch", justify="right", no_wrap=True)
        for name in group:
            table.add_column(Text(name), no_wrap=True)
        for place, (size, batch) in enumerate(rows):
            table.add_row(str(size), str(batch), *(columns[name][place] for name in group))
        tables.append(table)
        title = None
    return tables


def _groups(columns: dict[str, list[Text]], width: int) -> list[list[str]]:
    """Divide columns into groups that are at most `width` wide."""
    groups: list[list[str]] = [[]]
    used = 0
    for name, cells in columns.items():
        needed = max([len(name), *(len(cell) for cell in cells)]) + _PADDING
        if groups[-1] and used + needed > width:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += needed
    return groups


def _verdict(cell: Cell | None) -> Text:
    if cell is None:
        return Text("")
    style = _STYLES[VERDICTS[cell.verdict].outcome]
    text = Text(cell.verdict.value, style=style)
    if number := figure(cell):
        text.append(f" {number}", style="dim")
    return text


def _legend(report: Report) -> Text:
    legend = Text("× is the largest error as a multiple of its budget\n", style="dim")
    for verdict in Verdict:
        if any(cell.verdict is verdict for cell in report.cells):
            meaning = VERDICTS[verdict]
            legend.append(f"{verdict.value}", style=_STYLES[meaning.outcome])
            legend.append(f": {meaning.text}\n", style="dim")
    return legend


def _numbers(report: Report, *, is_wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("runtime", "version", "profile", "budget", "error", "needed", "top-1"):
        table.add_column(heading, no_wrap=True)
    if is_wide:
        table.add_column("ran on")
    for runtime in report.runtimes:
        cells = [c for c in report.cells if c.runtime == runtime.name and c.worst is not None]
        worst = max(cells, key=_severity, default=None)
        row = (
            runtime.name,
            runtime.version or "not installed",
            report.tolerance or runtime.profile,
            *_figures(worst),
        )
        table.add_row(*row, *([_providers(runtime)] if is_wide else []))
    return table


def _ran_on(report: Report) -> Text:
    """Say what each runtime ran on, below the numbers where a terminal is narrow."""
    lines = [f"{r.name} ran on {_providers(r)}" for r in report.runtimes if r.provenance.providers]
    return Text("\n".join(lines))


def _providers(runtime: RuntimeRecord) -> str:
    uses = runtime.provenance.providers
    return ", ".join(f"{use.provider} ({use.nodes} nodes)" for use in uses)


def _severity(cell: Cell) -> float:
    return cell.worst.deviation.ratio if cell.worst is not None else -1.0


def _figures(cell: Cell | None) -> tuple[str, str, str, str]:
    if cell is None or cell.worst is None:
        return ("", "", "", "")
    deviation, agreement = cell.worst.deviation, cell.worst.top1_agreement
    return (
        f"{deviation.budget:.2e}",
        f"{deviation.error:.2e}",
        f"atol {deviation.needed_atol:.2e}",
        "" if agreement is None else f"{agreement:.1%}",
    )


def _story(report: Report, cell: Cell) -> Text:
    text = Text(f"{cell}: ")
    text.append(cell.verdict.value, style=_STYLES[VERDICTS[cell.verdict].outcome])
    text.append(f": {cell.message or VERDICTS[cell.verdict].text}; {cell.advice}")
    if cell.diagnosis is not None:
        text.append(f"\n  diagnosis: {cell.diagnosis.text}")
        if command := reproduce(report, cell):
            text.append(f"\n  reproduce: {command}")
    return text


def _conclusion(report: Report) -> Text:
    good = sum(cell.is_good for cell in report.cells)
    passed = sum(cell.verdict is Verdict.PASS for cell in report.cells)
    words = f"{good} of {len(report.cells)} cells good, {passed} passed"
    if report.exit_code == 3 and good == len(report.cells):
        words += "; no cell passed, so nothing was proved"
    return Text(words, style="green" if report.ok else "bold red")
