"""What the template is given: the rows of the matrix, the bar, and the names of anchors."""

from __future__ import annotations

from dataclasses import dataclass

from anysize.validators.report.joined import Entry, JoinedReport
from anysize.validators.report.levels import Level, figure, level_of
from anysize.validators.report.plots import Plot, error_plot, latency_plot
from anysize.validators.report.report import Cell, Report
from anysize.validators.report.story import Story, tell
from anysize.validators.verdicts import VERDICTS, Outcome, Verdict

__all__ = [
    "LISTED_STORIES",
    "CellView",
    "EntryView",
    "Overview",
    "Row",
    "Segment",
    "StoryView",
    "bar",
    "view",
]

# Of the bar, in its own units.
_BAR_WIDTH = 1000.0
# So many stories are unfolded from the start, and so many have a line on the page.
_OPEN_STORIES = 1
LISTED_STORIES = 12


@dataclass(frozen=True, slots=True)
class CellView:
    """A cell of the matrix: its colour and mark, its words, and where its story stands."""

    level: Level
    words: str
    figure: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Row:
    """One size and batch, across the runtimes; None where a runtime has no such cell.

    `is_first` says that the size is another one than in the row before.
    """

    size: str
    batch: int
    is_first: bool
    cells: tuple[CellView | None, ...]


@dataclass(frozen=True, slots=True)
class StoryView:
    """A story, its anchor, and whether it is unfolded from the start."""

    anchor: str
    level: Level
    story: Story
    is_open: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """One runtime of one job: the level of its worst cell, and how many are good."""

    level: Level
    words: str


@dataclass(frozen=True, slots=True)
class EntryView:
    """One job of the page."""

    anchor: str
    entry: Entry
    status: str
    rows: tuple[Row, ...]
    stories: tuple[StoryView, ...]
    plots: tuple[Plot, ...]
    overview: tuple[Overview | None, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the bar: one verdict's share of all cells."""

    verdict: Verdict
    count: int
    kind: str
    x: float
    width: float


def view(entry: Entry, number: int, runtimes: tuple[str, ...]) -> EntryView:
    """Prepare one job; `runtimes` are the columns of the overview."""
    anchor, report = f"report-{number}", entry.report
    cells = report.cells if report is not None else ()
    anchors = {
        cell: f"{anchor}-cell-{place}"
        for place, cell in enumerate(c for c in cells if not c.is_good)
    }
    if report is None:
        return EntryView(anchor, entry, "failed", (), (), (), ())
    return EntryView(
        anchor=anchor,
        entry=entry,
        status=_status(report),
        rows=_rows(report, anchors),
        stories=tuple(
            StoryView(name, level_of(cell), tell(report, cell), place < _OPEN_STORIES)
            for place, (cell, name) in enumerate(anchors.items())
        ),
        plots=tuple(p for p in (error_plot(report), latency_plot(report)) if p is not None),
        overview=tuple(_overview(report, name) for name in runtimes),
    )


def bar(joined: JoinedReport) -> tuple[Segment, ...]:
    """Divide the bar among the verdicts."""
    counts = joined.counts()
    total = sum(count for _, count in counts) or 1
    segments, x = [], 0.0
    for verdict, count in counts:
        width = _BAR_WIDTH * count / total
        kind = "rejected" if verdict is Verdict.REJECTED else VERDICTS[verdict].outcome.value
        segments.append(
            Segment(verdict, count, kind.replace(" ", "-"), round(x, 2), round(width, 2))
        )
        x += width
    return tuple(segments)


def _status(report: Report) -> str:
    return {0: "good", 1: "failed"}.get(report.exit_code, "not-run")


def _rows(report: Report, anchors: dict[Cell, str]) -> tuple[Row, ...]:
    found = {(c.size, c.batch, c.runtime): c for c in report.cells}
    rows: list[Row] = []
    for size, batch in dict.fromkeys((cell.size, cell.batch) for cell in report.cells):
        across = tuple(
            _cell(cell, anchors) if (cell := found.get((size, batch, runtime.name))) else None
            for runtime in report.runtimes
        )
        is_first = not rows or rows[-1].size != str(size)
        rows.append(Row(str(size), batch, is_first, across))
    return tuple(rows)


def _cell(cell: Cell, anchors: dict[Cell, str]) -> CellView:
    number = figure(cell)
    words = "" if number else cell.verdict.value
    return CellView(level_of(cell), words, number, anchors.get(cell, ""))


def _overview(report: Report, runtime: str) -> Overview | None:
    cells = [cell for cell in report.cells if cell.runtime == runtime]
    if not cells:
        return None
    worst = max(cells, key=_severity)
    good = sum(cell.is_good for cell in cells)
    if good == len(cells):
        return Overview(level_of(worst), " ".join(filter(None, (f"{good} good", figure(worst)))))
    return Overview(level_of(worst), f"{len(cells) - good} of {len(cells)} {worst.verdict.value}")


def _severity(cell: Cell) -> tuple[int, float]:
    rank = (Outcome.GOOD, Outcome.NOT_RUN, Outcome.FAILED).index(VERDICTS[cell.verdict].outcome)
    return rank, cell.worst.deviation.ratio if cell.worst is not None else -1.0
