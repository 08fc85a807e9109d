"""The verdict of one cell, what it counts as, and the exit code that a set of them adds up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["VERDICTS", "Meaning", "Outcome", "Verdict", "exit_code"]


class Verdict(StrEnum):
    """What happened in one cell: one model × runtime × size × batch."""

    PASS = "pass"  # noqa: S105  (a verdict, not a password)
    REJECTED = "rejected"
    MISMATCH = "mismatch"
    SHAPE = "shape"
    ACCEPTED = "accepted"
    ERROR = "error"
    VACUOUS = "vacuous"
    UNSUPPORTED = "unsupported"
    FALLBACK = "fallback"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"


class Outcome(StrEnum):
    """What a verdict counts as."""

    GOOD = "good"
    FAILED = "failed"  # a comparison failed: exit 1
    NOT_RUN = "not run"  # something asked for did not run: exit 3


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a verdict says and what the reader can do about it.

    Attributes:
        outcome: What it counts as.
        text: The meaning, for the legend of a report.
        advice: The way out, for the line of a failing cell; "" where none is needed.
    """

    outcome: Outcome
    text: str
    advice: str = ""


VERDICTS: dict[Verdict, Meaning] = {
    Verdict.PASS: Meaning(Outcome.GOOD, "every output within the error budget"),
    Verdict.REJECTED: Meaning(Outcome.GOOD, "reference and runtime both reject this size"),
    Verdict.MISMATCH: Meaning(
        Outcome.FAILED,
        "values outside the error budget",
        "do not ship this file for this size",
    ),
    Verdict.SHAPE: Meaning(
        Outcome.FAILED,
        "an output is missing, extra, or of another shape or type",
        "let the file hand out what its original does: outputs of the same shapes and types",
    ),
    Verdict.ACCEPTED: Meaning(
        Outcome.FAILED,
        "unexpected acceptance: the reference rejects this size and the runtime answers",
        "nothing says that the answer is right: let the graph guard its sizes, or compare it with "
        "an original that takes them",
    ),
    Verdict.ERROR: Meaning(
        Outcome.FAILED,
        "the reference accepts this size and the runtime fails on it",
        "free the graph's axes, batch, height and width, with `anysize export` or "
        "`anysize rewrite`",
    ),
    Verdict.VACUOUS: Meaning(
        Outcome.FAILED,
        "insensitive reference: it hardly depends on its input, so agreement proves nothing",
        "use trained weights, another --seed, or a tighter tolerance",
    ),
    Verdict.UNSUPPORTED: Meaning(
        Outcome.NOT_RUN,
        "the runtime cannot load the graph",
        "leave this runtime out, or let the graph do without what it names; where that is an "
        "opset, `anysize export --opset` writes another",
    ),
    Verdict.FALLBACK: Meaning(
        Outcome.NOT_RUN,
        "a node ran on another provider than the one asked for",
        "install what the provider needs, or ask for the provider that really runs",
    ),
    Verdict.CRASHED: Meaning(
        Outcome.NOT_RUN,
        "the process of the runtime, or of the reference, died",
        "run it alone to see its output",
    ),
    Verdict.TIMEOUT: Meaning(
        Outcome.NOT_RUN,
        "the runtime, or the reference, ran out of time",
        "try smaller sizes or a longer limit",
    ),
    Verdict.UNAVAILABLE: Meaning(
        Outcome.NOT_RUN, "the runtime cannot run here", "`anysize runtimes` says what it needs"
    ),
}


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Return 1 when a comparison failed, else 3 when something did not run, else 0.

    Without a single `pass` nothing was proved, which is 3 as well: no cell, no green.
    """
    seen = set(verdicts)
    outcomes = {VERDICTS[verdict].outcome for verdict in seen}
    if Outcome.FAILED in outcomes:
        return 1
    if Outcome.NOT_RUN in outcomes or Verdict.PASS not in seen:
        return 3
    return 0
