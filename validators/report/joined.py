"""Several reports in one: what a matrix, or a CI run of many jobs, comes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta

from anysize.validators.judging import VERDICTS, Outcome, Verdict
from anysize.validators.report.formats import Written
from anysize.validators.report.report import SCHEMA_VERSION, Cell, Report

__all__ = ["Entry", "JoinedReport", "join"]

# What a set of jobs exits with: a failed comparison outweighs an unusable input, and that one
# outweighs what did not run.
_EXIT_ORDER = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Entry:
    """One job of a set.

    Attributes:
        name: The job's name.
        report: What it found; None where it came to none.
        error: Why, in one line; "" where there is a report.
        exit_code: What the job by itself exits with; 0 where all that its report has against it
            is known and expected.
        run_s: How long it took, in seconds; 0 where that is not known.
        key: A hash of what it depends on; "" outside of a matrix.
    """

    name: str
    report: Report | None
    error: str = ""
    exit_code: Annotated[int, Meta(ge=0, le=3)] = 0
    run_s: float = 0.0
    key: str = ""


@dataclass(frozen=True, slots=True)
class JoinedReport(Written):
    """Reports beside each other, in the order in which they were asked for.

    Attributes:
        entries: One for each job.
        schema_version: Version of the JSON form.
    """

    JSON_ADDS: ClassVar = ("ok", "exit_code")

    entries: tuple[Entry, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def exit_code(self) -> int:
        """1 where any comparison failed, else 2, 3 or 0; without an entry nothing was proved: 3."""
        codes = {entry.exit_code for entry in self.entries} or {3}
        return next((code for code in _EXIT_ORDER if code in codes), 0)

    @property
    def ok(self) -> bool:
        """Whether every job holds."""
        return self.exit_code == 0

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports of the jobs that came to one."""
        return tuple(entry.report for entry in self.entries if entry.report is not None)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells of all reports."""
        return tuple(cell for report in self.reports for cell in report.cells)

    def counts(self) -> tuple[tuple[Verdict, int], ...]:
        """Count the verdicts that occur, in the order of their table."""
        found = Counter(cell.verdict for cell in self.cells)
        return tuple((verdict, found[verdict]) for verdict in Verdict if found[verdict])

    def headline(self) -> str:
        """Say in one line how many cells are good, and how many passed."""
        cells = self.cells
        passed = sum(cell.verdict is Verdict.PASS for cell in cells)
        good = sum(cell.is_good for cell in cells)
        return f"{good} of {len(cells)} cells good, {passed} passed"

    def reason(self) -> str:
        """Say why the exit code is what it is."""
        counts = self.counts()
        if self.exit_code == 0:
            known = [f"{n} {v.value}" for v, n in counts if VERDICTS[v].outcome is not Outcome.GOOD]
            if known:
                return f"what is not good is known and expected: {', '.join(known)}"
            return "every cell is good, and every file has cells that passed"
        if self.exit_code == 2:
            unusable = sum(entry.exit_code == 2 for entry in self.entries)
            return f"{unusable} of {len(self.entries)} jobs could not be used"
        outcome = Outcome.FAILED if self.exit_code == 1 else Outcome.NOT_RUN
        named = [f"{n} {v.value}" for v, n in counts if VERDICTS[v].outcome is outcome]
        if self.exit_code == 1:
            return f"a comparison failed: {', '.join(named)}"
        if named:
            return f"something did not run: {', '.join(named)}"
        if any(entry.report is None for entry in self.entries):
            return "a job did not run"
        return "no cell passed, so nothing was proved"


def join(reports: Sequence[Report | JoinedReport]) -> JoinedReport:
    """Put reports beside each other; joined ones are taken apart."""
    entries: list[Entry] = []
    for report in reports:
        if isinstance(report, JoinedReport):
            entries.extend(report.entries)
        else:
            entries.append(Entry(report.model.path, report, "", report.exit_code))
    return JoinedReport(tuple(entries))
