"""The command line that runs one cell again."""

from __future__ import annotations

import shlex

from anysize.validators.report.report import Cell, Report

__all__ = ["reproduce"]


def reproduce(report: Report, cell: Cell, *, inputs: str = "") -> str:
    """Return a command that judges this cell again; "" where the reference has no name for one.

    Args:
        report: That the cell belongs to.
        cell: Any cell of it.
        inputs: An `.npz` file that stands in for the seeded images.
    """
    if report.reference.argument is None:
        return ""
    words = ["anysize", "validate", report.model.path]
    if report.reference.argument:
        words += ["--reference", report.reference.argument]
    if report.reference.weights:
        words += ["--weights", report.reference.weights]
    words += ["--runtimes", cell.runtime]
    if inputs:
        words += ["--inputs", inputs]
    else:
        words += ["--sizes", str(cell.size), "--batch", str(cell.batch)]
    if report.seed:
        words += ["--seed", str(report.seed)]
    if report.reference.arbiter != "float64":
        words += ["--arbiter", report.reference.arbiter]
    # A tolerance is recorded as `atol=… rtol=…`.
    for option in report.tolerance.split():
        name, _, value = option.partition("=")
        words += [f"--{name}", value]
    return shlex.join(words)
