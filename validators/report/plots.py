"""Points and ticks of the page's two plots; the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from anysize.validators.judging import rounded_up
from anysize.validators.report.report import Cell, Report

__all__ = ["HEIGHT", "WIDTH", "Plot", "Point", "Series", "Tick", "error_plot", "latency_plot"]

# In units of the drawing; letters are 12 units high, which stay readable on a phone.
WIDTH, HEIGHT = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 42
# An exact answer and one without measure have no place on a logarithmic axis.
_LEAST, _MOST = 1e-4, 1e8
_MAX_TICKS = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A mark at (x, y), and what it says when it is pointed at."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one runtime, from left to right; `shape` numbers its mark and colour."""

    name: str
    shape: int
    points: tuple[Point, ...]

    @property
    def path(self) -> str:
        """The line through the points, as SVG path data."""
        return "M" + " L".join(f"{point.x:g} {point.y:g}" for point in self.points)


@dataclass(frozen=True, slots=True)
class Plot:
    """Everything that the template draws, in its units.

    Attributes:
        title: What is shown.
        text: The same for those who cannot see it.
        series: One for each runtime that has points.
        x_ticks: Along the lower edge.
        y_ticks: Along the left edge.
        limit: The height of the budget's line; None where there is none.
    """

    title: str
    text: str
    series: tuple[Series, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class _Axis:
    """A logarithmic axis from `low` to `high`, drawn from `start` to `stop`."""

    low: float
    high: float
    start: float
    stop: float

    @classmethod
    def around(cls, low: float, high: float, start: float, stop: float) -> _Axis:
        """Make an axis that is as long as it takes for two ticks to be on it."""
        while len(_tick_values(low, high)) < 2:
            below, above = _next_steps(low, high)
            if low / below < above / high:
                low = below
            else:
                high = above
        return cls(low, high, start, stop)

    def place(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + share * (self.stop - self.start), 1)

    def ticks(self, label: Callable[[float], str]) -> tuple[Tick, ...]:
        return tuple(Tick(self.place(v), label(v)) for v in _tick_values(self.low, self.high))


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
    x_axis = _area_axis(report.cells)
    y_axis = _Axis.around(min(0.05, *values) / 1.5, max(3.0, *values) * 1.5, HEIGHT - BOTTOM, TOP)
    return Plot(
        "Error over budget, by image area",
        "The largest error of each size as a multiple of its budget, on logarithmic axes; "
        "above the line marked 1 a cell fails. The numbers are those of the matrix.",
        _series(report, worst, x_axis, y_axis, _times_text),
        x_axis.ticks(_area_label),
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
    x_axis = _area_axis(report.cells)
    y_axis = _Axis.around(min(values) / 1.5, max(values) * 1.5, HEIGHT - BOTTOM, TOP)
    return Plot(
        f"Milliseconds per run at batch {batch}, by image area",
        f"The faster of two runs of each size at batch {batch}, on logarithmic axes, measured "
        "while validating: an order of magnitude, no benchmark.",
        _series(report, fastest, x_axis, y_axis, lambda v: f"{v:.3g} ms"),
        x_axis.ticks(_area_label),
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
    x_axis: _Axis,
    y_axis: _Axis,
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


def _area_axis(cells: Iterable[Cell]) -> _Axis:
    areas = [cell.size.area for cell in cells]
    return _Axis.around(min(areas) / 1.2, max(areas) * 1.2, LEFT, WIDTH - RIGHT)


def _area_label(area: float) -> str:
    if area >= 1e6:
        return f"{area / 1e6:g} M"
    return f"{area:,g}".replace(",", " ")


def _tick_values(low: float, high: float) -> list[float]:
    """Choose 1, 2, 5 × 10ⁿ between two values, or powers of ten, thinned to a readable number."""
    steps = _steps(low, high)
    powers = [value for value, digit in steps if digit == 1 and low <= value <= high]
    if len(powers) > 2:
        step = math.ceil(len(powers) / _MAX_TICKS)
        # 1 is the budget: it is always among them.
        anchor = powers.index(1.0) % step if 1.0 in powers else 0
        return powers[anchor::step]
    return [value for value, _ in steps if low <= value <= high]


def _next_steps(low: float, high: float) -> tuple[float, float]:
    """Return the last step below a stretch and the first one above it."""
    values = [value for value, _ in _steps(low, high)]
    return max(v for v in values if v < low), min(v for v in values if v > high)


def _steps(low: float, high: float) -> list[tuple[float, int]]:
    """List 1, 2, 5 × 10ⁿ with their digits, from below `low` to above `high`."""
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    return [(float(f"{digit}e{n}"), digit) for n in range(first, last + 1) for digit in (1, 2, 5)]
