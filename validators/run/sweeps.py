"""One runtime's part of a validation: every case, ascending, and each size once more, descending.

What an answer leaves behind in a session shows in the next ones, at whatever batch: on the way
down each size is run at one of its batches, in turn. To run all of them again would take twice as
long, and ask the same once more.

Images and expected outputs come from the spool; the reference itself is asked once more only about
a cell that would fail. A runtime that crashes or hangs does so in its worker;
its session starts a new one for the next case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from anysize.errors import NoAnswerError, WorkerCrashedError, WorkerTimeoutError
from anysize.validators.inputs import Case, repeated_cases
from anysize.validators.judging import (
    PROFILES,
    DeclaredShape,
    Judgement,
    Tolerances,
    Verdict,
)
from anysize.validators.report import Cell, RuntimeRecord
from anysize.validators.run.case_expectation import CaseExpectation, failed
from anysize.validators.run.expectation import Expectations
from anysize.validators.run.joined_cells import (
    DEAD,
    blame_fallback,
    differs,
    join_amplified,
    merge_directions,
)
from anysize.validators.run.open_session import Opened, failure
from anysize.validators.run.spool import Spool, answer_label
from anysize.validators.run.steps import Work
from anysize.validators.runtimes import FileSession, Session, TimedSession, as_numbers
from anysize.words import cleaned, one_line

__all__ = ["RuntimeResult", "as_cell", "run_sweeps"]

Array = NDArray[np.generic]

Step = Callable[[str, str, float], None]


@dataclass(frozen=True, slots=True)
class RuntimeResult:
    """What one runtime contributes to the report."""

    record: RuntimeRecord
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One run: the outputs, or how it failed and in what words; some failures are no refusal."""

    outputs: Mapping[str, Array] | None
    words: str = ""
    run_s: float = 0.0
    failure: Verdict = Verdict.ERROR
    is_refusal: bool = True


def run_sweeps(
    opened: Opened,
    expectations: Sequence[CaseExpectation],
    *,
    asked: Expectations,
    tolerances: Tolerances | None = None,
    declared: Mapping[str, DeclaredShape] = MappingProxyType({}),
    saturated: Collection[str] = (),
    is_repeated: bool = True,
    step: Step,
    work: Work,
) -> RuntimeResult:
    """Run and judge all cases, and close the session; whatever happens becomes a verdict.

    Args:
        opened: The runtime, with a session or the reason why it has none.
        expectations: From the smallest size on.
        asked: Who asked about them; it holds images and expected outputs.
        tolerances: Replace the error budget.
        declared: The shapes of the outputs, as the file declares them.
        saturated: Outputs that saturate at 1.
        is_repeated: Run each size once more, descending; otherwise once is enough.
        step: Called before each run with what is being done, the runtime's name and the work.
        work: What runs take.
    """
    record, session = opened.record, opened.session
    if session is None:
        cells = tuple(
            as_cell(record.name, e.case, Judgement(opened.verdict, opened.words))
            for e in expectations
            if not e.case.is_amplified
        )
        return RuntimeResult(record, cells)
    try:
        again = repeated_cases([one.case for one in expectations]) if is_repeated else frozenset()
        sweep = _Sweep(session, record, asked, tolerances, declared, saturated, again, step, work)
        up = [sweep.run(expectation, repeats=None) for expectation in expectations]
        down: list[Cell] = []
        amplified: Cell | None = None
        for expectation, first in zip(reversed(expectations), reversed(up), strict=True):
            if expectation.case.is_amplified:
                amplified = first  # once is enough: its twin is repeated
                continue
            is_again = expectation.case in again
            down.append(sweep.run(expectation, repeats=first) if is_again else sweep.once(first))
            if amplified is not None:
                down[-1], amplified = join_amplified(down[-1], amplified), None
        record = replace(record, provenance=session.provenance())
    finally:
        asked.reference.close()  # it has been asked about a cell that would fail, perhaps
        session.close()
    return RuntimeResult(record, tuple(blame_fallback(c, record) for c in reversed(down)))


@dataclass(frozen=True, slots=True)
class _Sweep:
    """Runs cases on one session, and keeps the first answers, to compare the second with.

    Those of cells that are not good stay, to be compared with other runtimes'.
    """

    session: Session
    record: RuntimeRecord
    asked: Expectations
    tolerances: Tolerances | None
    declared: Mapping[str, DeclaredShape]
    saturated: Collection[str]
    again: Collection[Case]
    step: Step
    work: Work

    @property
    def spool(self) -> Spool:
        return self.asked.spool

    @property
    def _label(self) -> str:
        return answer_label(self.record.name)

    def run(self, expectation: CaseExpectation, *, repeats: Cell | None) -> Cell:
        """Run one case; with `repeats`, the answer must be that cell's once more."""
        case = expectation.case
        self.step(f"{self.record.name} at {case}", self.record.name, self.work.run(case))
        if repeats is not None and repeats.verdict in DEAD:
            return repeats  # once is enough to know, and a hang costs its whole limit again
        if expectation.failure is not None:
            return as_cell(self.record.name, case, expectation.failure)
        attempt = self._attempt(case)
        judgement = self._judge(attempt, expectation)
        run_s = attempt.run_s if attempt.outputs else None
        cell = as_cell(self.record.name, case, judgement, run_s=run_s)
        if repeats is None:
            if attempt.outputs and (case in self.again or not cell.is_good):
                self.spool.write(case, self._label, tuple(attempt.outputs.values()))
            return cell
        merged = merge_directions(repeats, cell)
        if merged.verdict is Verdict.PASS and attempt.outputs:
            complaint = differs(self.spool.read(case, self._label), attempt.outputs, cell)
            if complaint:
                merged = replace(merged, verdict=Verdict.MISMATCH, message=complaint)
        if merged.is_good:
            self.spool.remove(case, self._label)
        return merged

    def once(self, cell: Cell) -> Cell:
        """Leave a cell as it is; the answer of a good one is not needed any more."""
        if cell.is_good:
            self.spool.remove(Case(cell.size, cell.batch), self._label)
        return cell

    def _attempt(self, case: Case) -> _Attempt:
        session = self.session
        run: Callable[[], Mapping[str, Array]]
        if isinstance(session, FileSession):
            run = partial(session.run_files, self.spool.input_files(case))
        else:
            run = partial(session.run, self.spool.inputs(case))
        start = time.perf_counter()
        try:
            answers = run()
            run_s = time.perf_counter() - start
            if isinstance(session, TimedSession):
                run_s = session.last_run_s
        except (MemoryError, NoAnswerError) as exc:
            return _Attempt(None, one_line(exc), is_refusal=False)
        except Exception as exc:  # the runtime's own words become the verdict's message
            return _Attempt(None, one_line(exc), failure=failure(exc, otherwise=Verdict.ERROR))
        try:
            outputs = {name: as_numbers(name, answer) for name, answer in answers.items()}
        except Exception as exc:  # whatever it is, arrays by name it is not
            words = f"what it answers is of no use: {one_line(exc)}"
            return _Attempt(None, words, is_refusal=False)
        if not outputs:
            return _Attempt(None, "it answers with no output at all", is_refusal=False)
        return _Attempt(outputs, run_s=run_s)

    def _judge(self, attempt: _Attempt, expectation: CaseExpectation) -> Judgement:
        if expectation.rejection is not None:
            return _judge_rejected(attempt, expectation)
        if attempt.outputs is None:
            return Judgement(attempt.failure, attempt.words)
        try:
            judgement = self.asked.judge(
                expectation,
                attempt.outputs,
                profile=PROFILES[self.record.profile],
                tolerances=self.tolerances,
                declared=self.declared,
                saturated=self.saturated,
            )
        except (WorkerCrashedError, WorkerTimeoutError) as exc:  # the reference, asked once more
            return failed(exc)
        own = expectation.quantisation
        is_right = judgement.verdict in (Verdict.PASS, Verdict.VACUOUS)
        # Where the loss is too large for anything to be told, the report says so in a note.
        if own is None or own.verdict in (Verdict.PASS, Verdict.VACUOUS) or not is_right:
            return judgement
        words = "it computes what the quantised file says, and that is not its original"
        return Judgement(own.verdict, f"{words}: {own.message}", own.outputs)


def as_cell(runtime: str, case: Case, judgement: Judgement, *, run_s: float | None = None) -> Cell:
    """Say in a cell of a report how a runtime did at a case."""
    return Cell(
        runtime,
        case.size,
        case.batch,
        judgement.verdict,
        judgement.message,
        judgement.outputs,
        run_s,
    )


def _judge_rejected(attempt: _Attempt, expectation: CaseExpectation) -> Judgement:
    outputs, words = attempt.outputs, attempt.words
    if outputs is not None and all(output.size == 0 for output in outputs.values()):
        outputs, words = None, "all outputs are empty"
    reference = f"reference: {expectation.rejection}"
    if outputs is not None:
        shapes = ", ".join(f"{cleaned(n)} {list(output.shape)}" for n, output in outputs.items())
        return Judgement(Verdict.ACCEPTED, f"{reference}; runtime answers with {shapes}")
    if attempt.failure in DEAD or not attempt.is_refusal:  # that is no way to say no
        failure = attempt.failure if attempt.failure in DEAD else Verdict.CRASHED
        return Judgement(failure, f"{reference}; runtime: {words}")
    if expectation.is_taken:
        words = f"the reference takes {expectation.case.size}, and {expectation.rejection}: {words}"
        return Judgement(Verdict.ERROR, words)
    if expectation.is_promised:
        words = f"the file says that it takes this size, and does not: {words}"
        return Judgement(Verdict.ERROR, f"{reference}; {words}")
    return Judgement(Verdict.REJECTED, f"{reference}; runtime: {words}")
