"""The HTML page of an evaluation: its table, and plots over the size."""

from __future__ import annotations

from collections.abc import Callable

from anysize.sizes import Size
from anysize.validators.evaluation.evaluation import Evaluation, EvaluationRow
from anysize.validators.evaluation.table import facts, grid, row_name, title
from anysize.validators.report import Plot, line_plot
from anysize.validators.report.page import rendered

__all__ = ["evaluation_page"]


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
        confused=[
            (row_name(row, evaluation), row.accuracy.confusions)
            for row in evaluation.rows
            if row.accuracy and row.accuracy.confusions
        ],
        status="good" if evaluation.ok else "not-run",
    )


def _plots(evaluation: Evaluation) -> list[Plot]:
    """Plot whatever there is at two sizes or more."""
    reference = evaluation.reference
    plots = (
        _plot(
            evaluation,
            "Top-1 accuracy, by image area",
            "The share of images whose class is the strongest output.",
            lambda row: row.accuracy.top1 if row.accuracy else None,
        ),
        _plot(
            evaluation,
            "Agreement, by image area",
            f"The share of images whose strongest output is that of {reference}.",
            lambda row: row.accuracy.agreement if row.accuracy else None,
        ),
        _plot(
            evaluation,
            "Milliseconds per run, by image area",
            "The median, on logarithmic axes.",
            lambda row: row.timing.latency_ms if row.timing else None,
            unit=" ms",
        ),
    )
    return [plot for plot in plots if plot is not None]


def _plot(
    evaluation: Evaluation,
    name: str,
    text: str,
    pick: Callable[[EvaluationRow], float | None],
    *,
    unit: str = "",
) -> Plot | None:
    lines: dict[str, list[tuple[Size, float]]] = {}
    for row in evaluation.rows:
        value = pick(row)
        if row.size is not None and value is not None:
            runtime = row.runtime if len(evaluation.runtimes) > 1 else ""
            label = " ".join(filter(None, (row.model, row.head, runtime)))
            lines.setdefault(label, []).append((row.size, value))
    return line_plot(name, f"{text} The numbers are those of the table.", lines, unit=unit)
