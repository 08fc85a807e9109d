"""A failing cell's story: what happened, where, by how much, and what to do.

Cells of one runtime that fail in one and the same way are a group, whose story is told once; so are
all cells, of whatever runtime, for which the graph is to blame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, zip_longest

from anysize.validators.judging import VERDICTS, Outcome, OutputResult, Verdict, rounded_up
from anysize.validators.report.levels import ratio_text
from anysize.validators.report.report import Cell, Report
from anysize.validators.report.reproduce import reproduce
from anysize.words import shortened

__all__ = [
    "FailingGroup",
    "Story",
    "WrongOutput",
    "group_failing",
    "needed_atol",
    "tell",
    "tolerance_text",
    "wrong_graphs",
]

# So many cells of a group, and so many outputs of a cell, are called by name in one line.
_LISTED_CELLS = 4
_LISTED_OUTPUTS = 3
_LONGEST_NAME = 60
# Numbers, lists of them, and names, in which the messages of one group may differ.
_NUMBER = r"[-+]?(?:0x[0-9a-f]+|\d[\d.]*(?:e[-+]?\d+)?|\b(?:nan|inf)\b)"
_NUMBERS = re.compile(f"(?:{_NUMBER},? ?)+", re.IGNORECASE)
_NAMES = re.compile(r"'[^']*'|\"[^\"]*\"")
# A tolerance is judged vacuous where twice as much is all that the output varies by, as a share
# of its largest value; for values that keep their sign that is 1 at most.
_LARGEST_SHARE = 0.5

# Verdicts whose message quotes the runtime rather than the comparison.
_QUOTED = (
    Verdict.ERROR,
    Verdict.UNSUPPORTED,
    Verdict.CRASHED,
    Verdict.TIMEOUT,
    Verdict.UNAVAILABLE,
    Verdict.ACCEPTED,
)


@dataclass(frozen=True, slots=True)
class WrongOutput:
    """The numbers of one output that is outside its budget, as they are written."""

    name: str
    place: str
    got: str
    expected: str
    error: str
    ratio: str
    budget: str
    tolerance: str
    top1: str


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that is known of a cell that is not good.

    Attributes:
        cell: The cell.
        meaning: What the verdict means.
        message: What the comparison says of the worst output; "" where the runtime's own words say
            it.
        more: The other outputs that are wrong, in a few words; "" where there is none.
        words: The runtime's own; "" where it answered.
        outputs: The numbers of each output that is wrong.
        advice: What to do.
        diagnosis: Where it begins; "" where that was not asked for.
        command: That runs the cell again; "" where the reference has no name for one.
    """

    cell: Cell
    meaning: str
    message: str
    more: str
    words: str
    outputs: tuple[WrongOutput, ...]
    advice: str
    diagnosis: str
    command: str


@dataclass(frozen=True, slots=True)
class FailingGroup:
    """Cells that are not good: of one runtime, with one verdict and one reason, or of one graph.

    Attributes:
        told: The story of the first cell with a diagnosis, or of the one with the largest error, or
            of the first.
        others: The other cells, in the order of the report.
    """

    told: Story
    others: tuple[Cell, ...]

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes that it happens on."""
        cell = self.told.cell
        return (cell.diagnosis.runtimes if cell.diagnosis else ()) or (cell.runtime,)

    @property
    def who(self) -> str:
        """Who fails, in a few words."""
        if len(self.runtimes) > 1:
            return f"the graph, on {', '.join(self.runtimes)}"
        return self.told.cell.runtime

    @property
    def title(self) -> str:
        """Who fails, and where."""
        return f"{self.who} {_where(self.told.cell)}"

    @property
    def also_at(self) -> str:
        """Where the same happens, in a few words; "" where it does nowhere else."""
        places = dict.fromkeys(map(_where, self.others))
        places.pop(_where(self.told.cell), None)
        return _listed(list(places)[:_LISTED_CELLS], len(places))


def group_failing(report: Report) -> tuple[FailingGroup, ...]:
    """Group the cells that are not good by runtime, verdict and reason.

    A mismatch is told by its numbers, so that two of them differ only by what the message says
    besides. Where the graph is to blame, that is the one reason. Of a runtime, failed comparisons
    come before what did not run; the first groups of all runtimes come before the second one of
    any.
    """
    groups: dict[tuple[str, Verdict | None, str], list[Cell]] = {}
    for cell in report.cells:
        if not cell.is_good:
            groups.setdefault(_key(cell), []).append(cell)
    by_runtime: dict[str, list[list[Cell]]] = {}
    for (runtime, _, _), cells in groups.items():
        by_runtime.setdefault(runtime, []).append(cells)
    for found in by_runtime.values():
        found.sort(key=lambda cells: VERDICTS[cells[0].verdict].outcome is Outcome.NOT_RUN)
    ordered = chain.from_iterable(zip_longest(*by_runtime.values()))
    return tuple(_group(report, cells) for cells in ordered if cells)


def wrong_graphs(report: Report) -> tuple[str, ...]:
    """Return what is said of the graph where it is to blame for what all runtimes do."""
    found = (cell.diagnosis for cell in report.cells if cell.diagnosis is not None)
    return tuple(dict.fromkeys(one.text for one in found if one.runtimes))


def tell(report: Report, cell: Cell) -> Story:
    """Tell the story of one cell."""
    is_quoted = cell.verdict in _QUOTED
    wrong = [output for output in cell.outputs if not output.deviation.is_within]
    return Story(
        cell=cell,
        meaning=VERDICTS[cell.verdict].text,
        message="" if is_quoted else cell.message,
        more=_more(cell, wrong),
        words=cell.message if is_quoted else "",
        outputs=tuple(_numbers(output) for output in wrong),
        advice=cell.advice,
        diagnosis=cell.diagnosis.text if cell.diagnosis else "",
        command=reproduce(report, cell),
    )


def needed_atol(outputs: Iterable[OutputResult]) -> float:
    """Return the smallest `atol` with which all outputs would pass; infinite where none would do.

    None does for an output that is compared exactly, or where it would have to be so large that
    agreement within it proves nothing.
    """
    found = tuple(outputs)
    needed = max((_needed(output) for output in found), default=0.0)
    scales = [output.deviation.scale for output in found if output.deviation.scale > 0.0]
    return math.inf if scales and needed >= _LARGEST_SHARE * min(scales) else needed


def tolerance_text(needed: float) -> str:
    """Write the tolerance that would have passed, rounded up so that it really would."""
    if not math.isfinite(needed):
        return "none"
    return f"--atol {rounded_up(needed)}" if needed else "any"


def _group(report: Report, cells: list[Cell]) -> FailingGroup:
    diagnosed = (cell for cell in cells if cell.diagnosis is not None)
    told = next(diagnosed, None) or max(cells, key=lambda cell: cell.ratio)
    return FailingGroup(
        told=tell(report, told), others=tuple(cell for cell in cells if cell is not told)
    )


def _key(cell: Cell) -> tuple[str, Verdict | None, str]:
    """Return what cells of one group have in common, the runtime first."""
    if cell.diagnosis is not None and cell.diagnosis.runtimes:
        return "", None, cell.diagnosis.text
    return cell.runtime, cell.verdict, _reason(cell)


def _where(cell: Cell) -> str:
    return f"{cell.size} batch {cell.batch}"


def _reason(cell: Cell) -> str:
    """Return the message without what differs from one size and batch to the next."""
    text = _NUMBERS.sub("#", cell.message)
    return _NAMES.sub("''", text) if cell.verdict is Verdict.MISMATCH else text


def _more(cell: Cell, wrong: list[OutputResult]) -> str:
    others = [output.name for output in wrong if output is not cell.worst]
    if not others or cell.verdict is not Verdict.MISMATCH:
        return ""
    named = [repr(shortened(name, _LONGEST_NAME)) for name in others[:_LISTED_OUTPUTS]]
    plural = "s" if len(others) > 1 else ""
    return f"{len(others)} more output{plural}: {_listed(named, len(others))}"


def _listed(named: list[str], count: int) -> str:
    left = count - len(named)
    return ", ".join(named) + (f" and {left} more" if left else "")


def _needed(output: OutputResult) -> float:
    deviation = output.deviation
    if deviation.is_exact and not deviation.is_within:
        return math.inf
    return deviation.needed_atol


def _numbers(output: OutputResult) -> WrongOutput:
    deviation, agreement = output.deviation, output.top1_agreement
    return WrongOutput(
        name=output.name,
        place=str(list(deviation.index)),
        got=f"{deviation.got:.9g}",
        expected=f"{deviation.expected:.9g}",
        error=f"{deviation.error:.3g}",
        ratio=ratio_text(deviation.ratio),
        budget=f"{deviation.budget:.3g}",
        tolerance=tolerance_text(needed_atol((output,))),
        top1="—" if agreement is None else f"{agreement:.1%}",
    )
