"""The table on the terminal: sizes down, runtimes across, and a line for each failing cell."""

from __future__ import annotations

import math

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from anysize.validators.report.report import Cell, Report
from anysize.validators.verdicts import VERDICTS, Outcome, Verdict

__all__ = ["print_report", "report_table"]

_STYLES = {Outcome.GOOD: "green", Outcome.FAILED: "bold red", Outcome.NOT_RUN: "yellow"}


def print_report(report: Report, console: Console) -> None:
    """Print the table, the numbers behind it and the failing cells."""
    console.print(report_table(report))


def report_table(report: Report) -> RenderableType:
    """Draw a report for the terminal; verdicts are words first, colours second."""
    parts: list[RenderableType] = [_matrix(report), _legend(report), _numbers(report)]
    failing = [cell for cell in report.cells if not cell.is_good]
    parts.extend(_story(cell) for cell in failing)
    parts.append(_conclusion(report))
    return Group(*parts)


def _matrix(report: Report) -> Table:
    table = Table(title=f"{report.model.path} against {report.reference.name}", title_style="bold")
    table.add_column("size", justify="right")
    table.add_column("batch", justify="right")
    names = [runtime.name for runtime in report.runtimes]
    for name in names:
        table.add_column(name)
    found = {(cell.size, cell.batch, cell.runtime): cell for cell in report.cells}
    for size, batch in dict.fromkeys((cell.size, cell.batch) for cell in report.cells):
        row = [_verdict(found.get((size, batch, name))) for name in names]
        table.add_row(str(size), str(batch), *row)
    return table


def _verdict(cell: Cell | None) -> Text:
    if cell is None:
        return Text("")
    style = _STYLES[VERDICTS[cell.verdict].outcome]
    text = Text(cell.verdict.value, style=style)
    if cell.worst is not None and cell.verdict in (Verdict.PASS, Verdict.MISMATCH):
        text.append(f" {_ratio(cell.worst.deviation.ratio)}", style="dim")
    return text


def _ratio(ratio: float) -> str:
    if not math.isfinite(ratio):
        return "(no budget)"
    return f"{ratio:.2f}×" if ratio < 100 else f"{ratio:.1e}×"


def _legend(report: Report) -> Text:
    legend = Text("× is the largest error as a multiple of its budget\n", style="dim")
    for verdict in Verdict:
        if any(cell.verdict is verdict for cell in report.cells):
            meaning = VERDICTS[verdict]
            legend.append(f"{verdict.value}", style=_STYLES[meaning.outcome])
            legend.append(f": {meaning.text}\n", style="dim")
    return legend


def _numbers(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("runtime", "version", "profile", "budget", "error", "needed", "top-1"):
        table.add_column(heading, no_wrap=True)
    table.add_column("ran on")
    for runtime in report.runtimes:
        cells = [c for c in report.cells if c.runtime == runtime.name and c.worst is not None]
        worst = max(cells, key=_severity, default=None)
        table.add_row(
            runtime.name,
            runtime.version or "not installed",
            report.tolerance or runtime.profile,
            *_figures(worst),
            ", ".join(
                f"{use.provider} ({use.nodes} nodes)" for use in runtime.provenance.providers
            ),
        )
    return table


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


def _story(cell: Cell) -> Text:
    text = Text(f"{cell}: ")
    text.append(cell.verdict.value, style=_STYLES[VERDICTS[cell.verdict].outcome])
    return text.append(f": {cell.message or VERDICTS[cell.verdict].text}; {cell.advice}")


def _conclusion(report: Report) -> Text:
    good = sum(cell.is_good for cell in report.cells)
    passed = sum(cell.verdict is Verdict.PASS for cell in report.cells)
    words = f"{good} of {len(report.cells)} cells good, {passed} passed"
    if report.exit_code == 3 and good == len(report.cells):
        words += "; no cell passed, so nothing was proved"
    return Text(words, style="green" if report.ok else "bold red")
