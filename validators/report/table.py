"""The table on the terminal: sizes down, runtimes across, and a story for each way to fail."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from anysize.validators.judging import VERDICTS, Outcome, Verdict, rounded_up
from anysize.validators.report.joined import JoinedReport, join
from anysize.validators.report.levels import figure
from anysize.validators.report.report import Cell, Report, RuntimeRecord
from anysize.validators.report.story import FailingGroup, group_failing, needed_atol
from anysize.words import printable, shortened

__all__ = ["joined_table", "report_table", "table_text"]

# Below this the last column of the numbers does not fit.
_WIDE = 110
_HEADINGS = ("runtime", "version", "profile", "budget", "error", "needed", "top-1")
# Between two columns of the numbers.
_GAP = 2
# What a column of the matrix has beside its text, and the matrix beside its columns.
_PADDING, _BORDER = 3, 1
_STYLES = {Outcome.GOOD: "green", Outcome.FAILED: "bold red", Outcome.NOT_RUN: "yellow"}
# A terminal is scrolled back to the first ones; each is at most this long.
_MOST_STORIES = 20
_LONGEST = 1000


def report_table(report: Report, width: int = 160) -> RenderableType:
    """Draw a report for a terminal of `width` columns; verdicts are words first, colours second."""
    parts: list[RenderableType] = [*_matrices(report, width), _legend(report)]
    parts.extend(_numbers(report, width))
    parts.extend(_text(f"note: {note}") for note in report.notes)
    groups = group_failing(report)
    parts.extend(_story(group) for group in groups[:_MOST_STORIES])
    if len(groups) > _MOST_STORIES:
        left = len(groups) - _MOST_STORIES
        parts.append(_text(f"and {left} more stories, which --html and --json tell"))
    parts.append(_conclusion(report))
    return Group(*parts)


def table_text(report: Report | JoinedReport, width: int = 160) -> str:
    """Draw a report as plain text."""
    console = Console(width=width, soft_wrap=True, record=True, file=StringIO())
    console.print(joined_table(join((report,)), width))
    lines = console.export_text().splitlines()
    return "\n".join(line.rstrip() for line in lines)


def joined_table(joined: JoinedReport, width: int) -> RenderableType:
    """Draw each report, and what they add up to."""
    parts: list[RenderableType] = []
    for entry in joined.entries:
        if entry.report is not None:
            if entry.name != entry.report.model.path:
                parts.append(_text(entry.name, "bold"))
            parts.append(report_table(entry.report, width))
        else:
            parts.append(_text(f"{entry.name}: {entry.error}", _STYLES[Outcome.FAILED]))
    if len(joined.entries) > 1:
        parts.append(_jobs(joined))
        words = f"{len(joined.entries)} jobs: {joined.headline()}; {joined.reason()}"
        parts.append(_text(words, "green" if joined.ok else "bold red"))
    return Group(*parts)


def _jobs(joined: JoinedReport) -> Table:
    """Draw jobs down, runtimes across, and in each cell how many of its verdicts there are."""
    runtimes = dict.fromkeys(one.name for report in joined.reports for one in report.runtimes)
    table = Table(title="jobs")
    for heading in ("job", *runtimes):
        table.add_column(_text(heading), overflow="fold")
    for entry in joined.entries:
        cells = entry.report.cells if entry.report is not None else ()
        counted = [_counted([c for c in cells if c.runtime == name]) for name in runtimes]
        if entry.report is None:
            counted = [_text("did not run", _STYLES[Outcome.NOT_RUN])] * len(runtimes)
        table.add_row(_text(entry.name), *counted)
    return table


def _counted(cells: Sequence[Cell]) -> Text:
    found = Counter(cell.verdict for cell in cells)
    words = [
        (f"{found[verdict]} {verdict.value}", _STYLES[VERDICTS[verdict].outcome])
        for verdict in Verdict
        if found[verdict]
    ]
    return Text(", ").join(Text(text, style) for text, style in words)


def _text(words: str, style: str = "") -> Text:
    """Write words of others; neither the terminal nor rich's markup reads anything in them."""
    return Text(printable(words), style)


def _matrices(report: Report, width: int) -> list[Table]:
    """Draw the matrix, in several tables where all runtimes do not fit beside each other."""
    names = [runtime.name for runtime in report.runtimes]
    found = {(cell.size, cell.batch, cell.runtime): cell for cell in report.cells}
    rows = list(dict.fromkeys((cell.size, cell.batch) for cell in report.cells))
    longest = max([len("size"), *(len(str(size)) for size, _ in rows)])
    width -= _BORDER + longest + len("batch") + 2 * _PADDING
    columns = {
        name: [_verdict(found.get((size, batch, name)), width - _PADDING) for size, batch in rows]
        for name in names
    }
    title: Text | None = _text(f"{report.model.path} against {report.reference.name}")
    tables = []
    for group in _groups(columns, width):
        table = Table(title=title, title_style="bold")
        table.add_column("size", justify="right", no_wrap=True)
        table.add_column("batch", justify="right", no_wrap=True)
        for name in group:
            table.add_column(_text(name), no_wrap=True)
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


def _verdict(cell: Cell | None, most: int) -> Text:
    """Write a cell; the number is left out where it does not fit."""
    if cell is None:
        return Text("")
    style = _STYLES[VERDICTS[cell.verdict].outcome]
    text = Text(cell.verdict.value, style=style)
    number = figure(cell)
    if number and len(text) + 1 + len(number) <= most:
        text.append(f" {number}", style="dim")
    return text


def _legend(report: Report) -> Text:
    legend = Text("× is the largest error as a multiple of its budget", style="dim")
    requested = printable(report.tolerance)
    legend.append(f", which is {requested} by request\n" if requested else "\n")
    if any(cell.worst is not None for cell in report.cells):
        legend.append("needed is the required tolerance: the least atol that would pass\n", "dim")
    for verdict in Verdict:
        if any(cell.verdict is verdict for cell in report.cells):
            meaning = VERDICTS[verdict]
            legend.append(f"{verdict.value}", style=_STYLES[meaning.outcome])
            legend.append(f": {meaning.text}\n", style="dim")
    return legend


def _numbers(report: Report, width: int) -> list[RenderableType]:
    """Draw the numbers of each runtime as a table, or as lines where a table does not fit."""
    rows = [_row(report, runtime) for runtime in report.runtimes]
    columns = zip(_HEADINGS, *rows, strict=True)
    needed = sum(max(map(len, column)) + _GAP for column in columns) - _GAP
    if needed > width:
        return [*(_line(row) for row in rows), *_ran_on(report)]
    is_wide = width >= _WIDE
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=True)
    if is_wide:
        table.add_column("ran on")
    for runtime, row in zip(report.runtimes, rows, strict=True):
        across = [*row, _providers(runtime)] if is_wide else row
        table.add_row(*map(_text, across))
    return [table, *([] if is_wide else _ran_on(report))]


def _row(report: Report, runtime: RuntimeRecord) -> tuple[str, ...]:
    """Write a runtime's worst cell under `_HEADINGS`, and the tolerance for all of its cells."""
    cells = [c for c in report.cells if c.runtime == runtime.name and c.worst is not None]
    worst = max(cells, key=lambda cell: cell.ratio, default=None)
    row = (runtime.name, runtime.version or "not installed", runtime.profile)
    if worst is None or worst.worst is None:
        return (*row, "", "", "", "")
    deviation, agreement = worst.worst.deviation, worst.worst.top1_agreement
    needed = needed_atol(output for cell in cells for output in cell.outputs)
    return (
        *row,
        f"{deviation.budget:.2e}",
        f"{deviation.error:.2e}",
        f"atol {rounded_up(needed, '.2e')}" if math.isfinite(needed) else "no atol",
        "" if agreement is None else f"{agreement:.1%}",
    )


def _line(row: tuple[str, ...]) -> Text:
    """Write a row as a sentence, for a terminal that is too narrow for columns."""
    name, version, profile, *figures = row
    words = [f"{h} {figure}" for h, figure in zip(_HEADINGS[3:], figures, strict=True) if figure]
    return _text(f"{name} {version} {profile}: {', '.join(words) or 'nothing was measured'}")


def _ran_on(report: Report) -> list[Text]:
    """Say what each runtime ran on, below the numbers where a terminal is narrow."""
    return [
        _text(f"{runtime.name} ran on {_providers(runtime)}")
        for runtime in report.runtimes
        if runtime.provenance.providers
    ]


def _providers(runtime: RuntimeRecord) -> str:
    uses = runtime.provenance.providers
    return ", ".join(f"{use.provider} ({use.nodes} nodes)" for use in uses)


def _story(group: FailingGroup) -> Text:
    story = group.told
    verdict = story.cell.verdict
    words = shortened(story.message or story.words or story.meaning, _LONGEST)
    more = f"; and {story.more}" if story.more else ""
    text = _text(f"{group.title}: ")
    text.append(verdict.value, style=_STYLES[VERDICTS[verdict].outcome])
    text.append(printable(f": {words}{more}; {story.advice}"))
    if group.also_at:
        text.append(f"\n  also at {group.also_at}")
    if story.diagnosis:
        text.append(f"\n  diagnosis: {printable(shortened(story.diagnosis, _LONGEST))}")
        if story.command:
            text.append(f"\n  reproduce: {printable(story.command)}")
    return text


def _conclusion(report: Report) -> Text:
    words = join((report,)).headline()
    if report.exit_code == 3 and all(cell.is_good for cell in report.cells):
        words += "; no cell passed, so nothing was proved"
    return Text(words, style="green" if report.ok else "bold red")
