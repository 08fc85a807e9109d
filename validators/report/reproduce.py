"""The command line that runs one cell again."""

from __future__ import annotations

import shlex

from anysize.validators.report.diagnosis import Culprit
from anysize.validators.report.report import Cell, Report

__all__ = ["reproduce"]


_PROFILE_OPTIONS = {"float16": "--half", "tf32": "--tf32"}


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
    if report.reference.model_args:
        words += ["--model-args", report.reference.model_args]
    if report.reference.device != "cpu":
        words += ["--reference-device", report.reference.device]
    diagnosis = cell.diagnosis
    agreeing = diagnosis.runtimes if diagnosis is not None else ()
    words += ["--runtimes", ",".join(agreeing) or cell.runtime]
    if diagnosis is not None and diagnosis.culprit is Culprit.STATE:
        # What ran before is the cause: all of it has to run again.
        words += ["--sizes", ",".join(dict.fromkeys(str(one.size) for one in report.cells))]
        words += ["--batches", ",".join(dict.fromkeys(str(one.batch) for one in report.cells))]
    elif diagnosis is not None and diagnosis.inputs:
        words += ["--inputs", diagnosis.inputs]
    else:
        words += ["--sizes", str(cell.size), "--batches", str(cell.batch)]
    if report.seed:
        words += ["--seed", str(report.seed)]
    if report.reference.arbiter != "float64":
        words += ["--arbiter", report.reference.arbiter]
    profiles = {runtime.name: runtime.profile for runtime in report.runtimes}
    if (option := _PROFILE_OPTIONS.get(profiles.get(cell.runtime, ""))) is not None:
        words += [option]
    try:
        tolerances = shlex.split(report.tolerance)
    except ValueError:  # a report that somebody else wrote
        return ""
    for tolerance in tolerances:
        option, _, number = tolerance.rpartition("=")
        output, colon, name = option.rpartition(":")
        words += [f"--{name}", f"{output}{colon}{number}"]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """Quote a word for a shell; what is not printable in it is written by its code."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    # Python stands these letters in for the bytes of a name that is not UTF-8.
    is_byte = "\udc80" <= letter <= "\udcff"
    codes = letter.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\x{code:02x}" for code in codes)
