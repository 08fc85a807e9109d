"""What the template is given: the rows of the matrix, the bar, and the names of anchors."""

from __future__ import annotations

from dataclasses import dataclass

from anysize.validators.judging import VERDICTS, Outcome, Verdict
from anysize.validators.report.drawing import Plot
from anysize.validators.report.joined import Entry, JoinedReport
from anysize.validators.report.levels import Level, figure, level_of
from anysize.validators.report.plots import error_plot, latency_plot
from anysize.validators.report.report import Cell, Report
from anysize.validators.report.story import FailingGroup, Story, group_failing, tell

__all__ = [
    "CellView",
    "EntryView",
    "GroupView",
    "Overview",
    "Row",
    "Segment",
    "StoryView",
    "bar",
    "view",
]

# Of the bar, in its own units.
_BAR_WIDTH = 1000.0
# So many groups are unfolded from the start, and so many of a group's other cells have a link.
_OPEN_GROUPS = 6
_LISTED_CELLS = 24


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
    """A story, its anchor, and whether it has a link of its own; the matrix leads to all."""

    anchor: str
    level: Level
    story: Story
    figure: str
    is_listed: bool = True


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group of failing cells: who fails, what is told, the others, and whether it is unfolded.

    `runtimes` says how many runtimes it is about.
    """

    who: str
    runtimes: int
    told: StoryView
    others: tuple[StoryView, ...]
    is_open: bool

    @property
    def unlisted(self) -> int:
        """How many of the others only the matrix leads to."""
        return sum(not other.is_listed for other in self.others)


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
    groups: tuple[GroupView, ...]
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


def view(
    entry: Entry, number: int, runtimes: tuple[str, ...], *, is_drawn: bool = True
) -> EntryView:
    """Prepare one job.

    Args:
        entry: The job.
        number: Its place.
        runtimes: The columns of the overview.
        is_drawn: Whether it has plots though all is good.
    """
    anchor, report = f"report-{number}", entry.report
    cells = report.cells if report is not None else ()
    anchors = {
        cell: f"{anchor}-cell-{place}"
        for place, cell in enumerate(c for c in cells if not c.is_good)
    }
    if report is None:
        return EntryView(anchor, entry, "failed", (), (), (), ())
    plots = (error_plot(report), latency_plot(report)) if is_drawn or not report.ok else ()
    return EntryView(
        anchor=anchor,
        entry=entry,
        status=_status(report),
        rows=_rows(report, anchors),
        groups=tuple(
            _group(report, group, anchors, is_open=place < _OPEN_GROUPS)
            for place, group in enumerate(group_failing(report))
        ),
        plots=tuple(plot for plot in plots if plot is not None),
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


def _group(
    report: Report, group: FailingGroup, anchors: dict[Cell, str], *, is_open: bool
) -> GroupView:
    return GroupView(
        who=group.who,
        runtimes=len(group.runtimes),
        told=_story(group.told, anchors),
        others=tuple(
            _story(tell(report, cell), anchors, is_listed=place < _LISTED_CELLS)
            for place, cell in enumerate(group.others)
        ),
        is_open=is_open,
    )


def _story(story: Story, anchors: dict[Cell, str], *, is_listed: bool = True) -> StoryView:
    cell = story.cell
    return StoryView(anchors[cell], level_of(cell), story, figure(cell), is_listed)


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
    return rank, cell.ratio
