"""What the pages' plots are made of: points, ticks and axes; the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from anysize.sizes import Size

__all__ = [
    "BOTTOM",
    "HEIGHT",
    "TOP",
    "WIDTH",
    "LogAxis",
    "Plot",
    "Point",
    "Series",
    "Tick",
    "area_axis",
    "area_label",
    "line_plot",
]

# In units of the drawing; letters are 12 units high, which stay readable on a phone.
WIDTH, HEIGHT = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 42
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
    """The points of a runtime or model, from left to right; `shape` numbers mark and colour."""

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
        series: One for each runtime or model that has points.
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


class _Axis(Protocol):
    """Where a value stands on a plot, and the ticks."""

    def place(self, value: float) -> float:
        """Return the place of a value, in units of the drawing."""
        ...

    def ticks(self, label: Callable[[float], str]) -> tuple[Tick, ...]:
        """Return the ticks with their labels."""
        ...


@dataclass(frozen=True, slots=True)
class LogAxis:
    """A logarithmic axis from `low` to `high`, drawn from `start` to `stop`."""

    low: float
    high: float
    start: float
    stop: float

    @classmethod
    def around(cls, low: float, high: float, start: float, stop: float) -> LogAxis:
        """Make an axis that is as long as it takes for two ticks to be on it."""
        while len(_tick_values(low, high)) < 2:
            below, above = _next_steps(low, high)
            if low / below < above / high:
                low = below
            else:
                high = above
        return cls(low, high, start, stop)

    def place(self, value: float) -> float:
        """Return the place of a value, or of the nearest one on the axis."""
        value = min(max(value, self.low), self.high)
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + share * (self.stop - self.start), 1)

    def ticks(self, label: Callable[[float], str]) -> tuple[Tick, ...]:
        """Return the ticks with their labels."""
        return tuple(Tick(self.place(v), label(v)) for v in _tick_values(self.low, self.high))


@dataclass(frozen=True, slots=True)
class _ShareAxis:
    """A linear axis of shares, upwards to 1 in steps of so many hundredths."""

    step: int
    low: int

    @classmethod
    def around(cls, shares: Sequence[float]) -> _ShareAxis:
        """Make an axis that reaches down to the smallest share, in five steps or so."""
        least = math.floor(min(shares) * 100)
        step = next(step for step in (1, 2, 5, 10, 20) if least >= 100 - 5 * step)
        return cls(step, min(least // step * step, 100 - step))

    def place(self, value: float) -> float:
        """Return the height of a share."""
        share = (100 * value - self.low) / (100 - self.low)
        return round(HEIGHT - BOTTOM + share * (TOP - HEIGHT + BOTTOM), 1)

    def ticks(self, label: Callable[[float], str]) -> tuple[Tick, ...]:
        """Return the steps with their labels."""
        values = [value / 100 for value in range(self.low, 101, self.step)]
        return tuple(Tick(self.place(value), label(value)) for value in values)


def line_plot(
    title: str, text: str, lines: Mapping[str, Sequence[tuple[Size, float]]], *, unit: str = ""
) -> Plot | None:
    """Plot values over the image's area, a line for each name; None of less than two sizes.

    Args:
        title: What is shown.
        text: The same for those who cannot see it.
        lines: Name → sizes and values.
        unit: Of the values, whose axis is logarithmic then; "" where they are shares.
    """
    sizes = [size for points in lines.values() for size, _ in points]
    values = [value for points in lines.values() for _, value in points]
    if len(set(sizes)) < 2 or (unit and min(values) <= 0):
        return None
    x_axis = area_axis(sizes)
    y_axis: _Axis = _ShareAxis.around(values)
    if unit:
        y_axis = LogAxis.around(min(values) / 1.5, max(values) * 1.5, HEIGHT - BOTTOM, TOP)

    def point(size: Size, value: float) -> Point:
        words = f"{value:.3g}{unit}" if unit else f"{value:.1%}"
        return Point(x_axis.place(size.area), y_axis.place(value), f"{size}: {words}")

    series = tuple(
        Series(name, shape, tuple(point(*p) for p in sorted(points, key=lambda p: p[0].area)))
        for shape, (name, points) in enumerate(lines.items())
    )
    y_ticks = y_axis.ticks(lambda v: f"{v:g}" if unit else f"{v:.0%}")
    return Plot(title, text, series, x_axis.ticks(area_label), y_ticks)


def area_axis(sizes: Sequence[Size]) -> LogAxis:
    """Return the axis of images' areas, from left to right."""
    areas = [size.area for size in sizes]
    return LogAxis.around(min(areas) / 1.2, max(areas) * 1.2, LEFT, WIDTH - RIGHT)


def area_label(area: float) -> str:
    """Write a number of pixels."""
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
