"""The command line that runs one cell again."""

from __future__ import annotations

import shlex

from anysize.validators.report.diagnosis import Culprit
from anysize.validators.report.report import Cell, Report

__all__ = ["reproduce"]


def reproduce(report: Report, cell: Cell) -> str:
    """Return a command that judges this cell again; "" where the reference has no name for one.

    It runs on the images that a diagnosis saved, where there is one, else on the seeded ones; and
    on every size and batch of the report where the diagnosis blames what ran before.
    """
    if report.reference.argument is None:
        return ""
    words = ["anysize", "validate", report.model.path]
    if report.reference.argument:
        words += ["--reference", report.reference.argument]
    if report.reference.weights:
        words += ["--weights", report.reference.weights]
    if report.reference.device != "cpu":
        words += ["--reference-device", report.reference.device]
    words += ["--runtimes", cell.runtime]
    diagnosis = cell.diagnosis
    if diagnosis is not None and diagnosis.culprit is Culprit.STATE:
        # What ran before is the cause: all of it has to run again.
        words += ["--sizes", ",".join(dict.fromkeys(str(one.size) for one in report.cells))]
        words += ["--batch", ",".join(dict.fromkeys(str(one.batch) for one in report.cells))]
    elif diagnosis is not None and diagnosis.inputs:
        words += ["--inputs", diagnosis.inputs]
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
