"""A report as a pandas table."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from anysize.errors import UsageError
from anysize.validators.report.joined import JoinedReport, join
from anysize.validators.report.report import Cell, Report

__all__ = ["to_dataframe"]

_COLUMNS = (
    "job", "runtime", "height", "width", "batch", "bright", "verdict", "message", "run_s",
    "output", "error", "budget",
)  # fmt: skip


def to_dataframe(report: Report | JoinedReport) -> Any:
    """Return a `pandas.DataFrame` with a row for each cell and output.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        pandas: Any = importlib.import_module("pandas")
    except ImportError as exc:
        raise UsageError("to_dataframe: pandas is not installed; pip install pandas") from exc
    rows = [
        row
        for entry in join((report,)).entries
        for cell in (entry.report.cells if entry.report is not None else ())
        for row in _rows(entry.name, cell)
    ]
    return pandas.DataFrame(rows, columns=list(_COLUMNS))


def _rows(job: str, cell: Cell) -> Iterator[tuple[object, ...]]:
    known = (
        job,
        cell.runtime,
        cell.size.height,
        cell.size.width,
        cell.batch,
        cell.is_bright,
        cell.verdict.value,
        cell.message,
        cell.run_s,
    )
    if not cell.outputs:
        yield (*known, None, None, None)
    for output in cell.outputs:
        yield (*known, output.name, output.deviation.error, output.deviation.budget)
