"""A failing cell's story: what happened, where, by how much, and what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from anysize.validators.parity import OutputResult
from anysize.validators.report.levels import ratio_text
from anysize.validators.report.report import Cell, Report
from anysize.validators.report.reproduce import reproduce
from anysize.validators.verdicts import VERDICTS, Verdict

__all__ = ["Story", "WrongOutput", "stories", "tell", "tolerance_text"]

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
        meaning: Of its verdict.
        message: Of the comparison; "" where the runtime's own words say it.
        words: The runtime's own; "" where it answered.
        outputs: The numbers of each output that is wrong.
        advice: What to do.
        diagnosis: Where it begins; "" where that was not asked for.
        command: That runs the cell again; "" where the reference has no name for one.
    """

    cell: Cell
    meaning: str
    message: str
    words: str
    outputs: tuple[WrongOutput, ...]
    advice: str
    diagnosis: str
    command: str


def stories(report: Report) -> tuple[Story, ...]:
    """Tell the story of each cell that is not good, in the order of the cells."""
    return tuple(tell(report, cell) for cell in report.cells if not cell.is_good)


def tell(report: Report, cell: Cell) -> Story:
    """Tell the story of one cell."""
    is_quoted = cell.verdict in _QUOTED
    wrong = [output for output in cell.outputs if not output.deviation.is_within]
    return Story(
        cell=cell,
        meaning=VERDICTS[cell.verdict].text,
        message="" if is_quoted else cell.message,
        words=cell.message if is_quoted else "",
        outputs=tuple(_numbers(output) for output in wrong),
        advice=cell.advice,
        diagnosis=cell.diagnosis.text if cell.diagnosis else "",
        command=reproduce(report, cell),
    )


def tolerance_text(needed_atol: float) -> str:
    """Write the tolerance that would have passed, rounded up so that it really would."""
    if not math.isfinite(needed_atol):
        return "none"
    if needed_atol == 0.0:
        return "any"
    step = 10.0 ** (math.floor(math.log10(needed_atol)) - 2)
    return f"--atol {math.ceil(needed_atol / step) * step:.3g}"


def _numbers(output: OutputResult) -> WrongOutput:
    deviation, agreement = output.deviation, output.top1_agreement
    return WrongOutput(
        name=output.name,
        place=f"[{', '.join(map(str, deviation.index))}]",
        got=f"{deviation.got:.9g}",
        expected=f"{deviation.expected:.9g}",
        error=f"{deviation.error:.3g}",
        ratio=ratio_text(deviation.ratio),
        budget=f"{deviation.budget:.3g}",
        tolerance=tolerance_text(deviation.needed_atol),
        top1="—" if agreement is None else f"{agreement:.1%}",
    )
