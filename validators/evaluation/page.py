"""The HTML page of an evaluation: its table, and plots over the size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anysize.sizes import Size
from anysize.validators.evaluation.evaluation import Evaluation, EvaluationRow
from anysize.validators.evaluation.table import facts, grid, title
from anysize.validators.report.drawing import (
    BOTTOM,
    HEIGHT,
    TOP,
    Axis,
    LogAxis,
    Plot,
    Point,
    Series,
    ShareAxis,
    area_axis,
    area_label,
)
from anysize.validators.report.page import rendered

__all__ = ["evaluation_page"]

_Pick = Callable[[EvaluationRow], float | None]


def evaluation_page(evaluation: Evaluation) -> str:
    """Draw an evaluation as one HTML page.

    Raises:
        UsageError: jinja2, of the extra `report`, is not installed.
    """
    statuses = [row.status for row in evaluation.rows]
    counts = {status: statuses.count(status) for status in ("ran", "rejected", "failed")}
    return rendered(
        "evaluation.html.j2",
        str(__package__),
        evaluation=evaluation,
        title=title(evaluation),
        headline=", ".join(f"{count} {status}" for status, count in counts.items() if count),
        grid=grid(evaluation),
        facts=facts(evaluation),
        plots=_plots(evaluation),
        confused=[row for row in evaluation.rows if row.accuracy and row.accuracy.confusions],
        status="good" if evaluation.ok else "not-run",
    )


def _plots(evaluation: Evaluation) -> list[Plot]:
    """Plot whatever there is at two sizes or more."""
    wanted: list[tuple[str, str, _Pick, str]] = [
        (
            "Top-1 accuracy, by image area",
            "The share of images whose class is the strongest output.",
            lambda row: row.accuracy.top1 if row.accuracy else None,
            "",
        ),
        (
            "Agreement, by image area",
            f"The share of images whose strongest output is that of {evaluation.reference}.",
            lambda row: row.accuracy.agreement if row.accuracy else None,
            "",
        ),
        (
            "Milliseconds per run, by image area",
            "The median, on logarithmic axes.",
            lambda row: row.timing.latency_ms if row.timing else None,
            " ms",
        ),
    ]
    plots = (_plot(evaluation, *one) for one in wanted)
    return [plot for plot in plots if plot is not None]


def _plot(evaluation: Evaluation, name: str, text: str, pick: _Pick, unit: str) -> Plot | None:
    found: dict[str, list[tuple[Size, float]]] = {}
    for row in evaluation.rows:
        value = pick(row)
        if row.size is not None and value is not None:
            found.setdefault(_name(row, evaluation), []).append((row.size, value))
    sizes = [size for points in found.values() for size, _ in points]
    values = [value for points in found.values() for _, value in points]
    if len(set(sizes)) < 2 or (unit and min(values) <= 0):
        return None
    x_axis = area_axis(sizes)
    y_axis: Axis = ShareAxis.around(values)
    if unit:
        y_axis = LogAxis.around(min(values) / 1.5, max(values) * 1.5, HEIGHT - BOTTOM, TOP)

    def words(value: float) -> str:
        return f"{value:.3g}{unit}" if unit else f"{value:.1%}"

    return Plot(
        name,
        f"{text} The numbers are those of the table.",
        tuple(
            Series(name, shape, _points(points, x_axis, y_axis, words))
            for shape, (name, points) in enumerate(found.items())
        ),
        x_axis.ticks(area_label),
        y_axis.ticks(lambda v: f"{v:g}" if unit else f"{v:.0%}"),
    )


def _points(
    points: Sequence[tuple[Size, float]],
    x_axis: Axis,
    y_axis: Axis,
    words: Callable[[float], str],
) -> tuple[Point, ...]:
    ordered = sorted(points, key=lambda point: point[0].area)
    return tuple(
        Point(x_axis.place(size.area), y_axis.place(value), f"{size}: {words(value)}")
        for size, value in ordered
    )


def _name(row: EvaluationRow, evaluation: Evaluation) -> str:
    runtime = row.runtime if len(evaluation.runtimes) > 1 else ""
    return " ".join(filter(None, (row.model, row.head, runtime)))
