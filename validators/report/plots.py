"""The page's two plots of a validation: error and latency over the size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from anysize.validators.judging import rounded_up
from anysize.validators.report.drawing import (
    BOTTOM,
    HEIGHT,
    TOP,
    LogAxis,
    Plot,
    Point,
    Series,
    area_axis,
    area_label,
)
from anysize.validators.report.report import Cell, Report

__all__ = ["error_plot", "latency_plot"]

# An exact answer and one without measure have no place on a logarithmic axis.
_LEAST, _MOST = 1e-4, 1e8


def error_plot(report: Report) -> Plot | None:
    """Plot the largest error as a multiple of its budget over the image's area."""

    def value(cell: Cell) -> float | None:
        if cell.worst is None:
            return None
        ratio = cell.worst.deviation.ratio
        return _MOST if math.isnan(ratio) else min(max(ratio, _LEAST), _MOST)

    # The batch that comes out worst speaks for its size.
    worst = _by_size(report.cells, value, max)
    if not worst:
        return None
    values = [number for number, _ in worst.values()]
    x_axis = area_axis([cell.size for cell in report.cells])
    y_axis = LogAxis.around(min(0.05, *values) / 1.5, max(3.0, *values) * 1.5, HEIGHT - BOTTOM, TOP)
    return Plot(
        "Error over budget, by image area",
        "The largest error of each size as a multiple of its budget, on logarithmic axes; "
        "above the line marked 1 a cell fails. The numbers are those of the matrix.",
        _series(report, worst, x_axis, y_axis, _times_text),
        x_axis.ticks(area_label),
        y_axis.ticks(lambda v: f"{v:g}×" if 1e-3 <= v < 1e4 else f"{v:.0e}×"),
        y_axis.place(1.0),
    )


def latency_plot(report: Report) -> Plot | None:
    """Plot the time of a run over the image's area, at the smallest batch."""
    batch = min((cell.batch for cell in report.cells), default=1)
    cells = [cell for cell in report.cells if cell.batch == batch]
    fastest = _by_size(cells, _milliseconds, min)
    if not fastest:
        return None
    values = [number for number, _ in fastest.values()]
    x_axis = area_axis([cell.size for cell in report.cells])
    y_axis = LogAxis.around(min(values) / 1.5, max(values) * 1.5, HEIGHT - BOTTOM, TOP)
    return Plot(
        f"Milliseconds per run at batch {batch}, by image area",
        f"The faster of two runs of each size at batch {batch}, on logarithmic axes, measured "
        "while validating: an order of magnitude, no benchmark.",
        _series(report, fastest, x_axis, y_axis, lambda v: f"{v:.3g} ms"),
        x_axis.ticks(area_label),
        y_axis.ticks(lambda v: f"{v:g}"),
    )


def _times_text(ratio: float) -> str:
    number = rounded_up(ratio) if ratio > 1.0 else f"{ratio:.2g}"
    return f"{number} × the budget"


def _milliseconds(cell: Cell) -> float | None:
    if cell.run_s is None or not 0.0 < cell.run_s < math.inf:
        return None
    return cell.run_s * 1e3


def _by_size(
    cells: Iterable[Cell],
    value: Callable[[Cell], float | None],
    choose: Callable[[float, float], float],
) -> dict[tuple[str, int, str], tuple[float, Cell]]:
    """Choose one value for each (runtime, area, size)."""
    found: dict[tuple[str, int, str], tuple[float, Cell]] = {}
    for cell in cells:
        number = value(cell)
        if number is None:
            continue
        key = (cell.runtime, cell.size.area, str(cell.size))
        if key not in found or choose(number, found[key][0]) == number:
            found[key] = (number, cell)
    return found


def _series(
    report: Report,
    values: dict[tuple[str, int, str], tuple[float, Cell]],
    x_axis: LogAxis,
    y_axis: LogAxis,
    describe: Callable[[float], str],
) -> tuple[Series, ...]:
    found = []
    for shape, runtime in enumerate(report.runtimes):
        points = tuple(
            Point(x_axis.place(area), y_axis.place(number), f"{cell}: {describe(number)}")
            for (name, area, _), (number, cell) in sorted(values.items(), key=lambda i: i[0][1])
            if name == runtime.name
        )
        if points:
            found.append(Series(runtime.name, shape, points))
    return tuple(found)
