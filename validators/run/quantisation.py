"""How far a quantised file's own numbers are from those of the model that it was made of.

What the file means is computed from the file itself, and runtimes are held to that. The other
question is whether that is the original, but for what rounding to few bits costs. So the file runs
up to sixteen times with as much noise behind each rounding as the rounding loses, and the root mean
square of the changes is what a right quantisation is off by, and more: a draw changes all roundings
behind it, too, and adds its noise to zeros, which are exact.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from anysize.errors import WorkerCrashedError, WorkerTimeoutError
from anysize.validators.inputs import GraphInputs
from anysize.validators.judging import (
    PROFILES,
    QUANTISED,
    Expected,
    Verdict,
    float_error,
    judge,
    rounded_up,
)
from anysize.validators.references import Reference, Rejected
from anysize.validators.report import QuantisationRecord
from anysize.validators.run.arbiter import arbitrate
from anysize.validators.run.case_expectation import CaseExpectation, failed
from anysize.validators.run.expectation import Expectations
from anysize.validators.run.file_under_test import FileUnderTest

__all__ = ["Quantisation", "in_range", "quantisation_note", "quantisation_records"]

Array = NDArray[np.generic]

# As many as where roundings of float32 are drawn; four tell where the error is far from the budget.
_FIRST_DRAWS, _DRAWS = 4, 16
_PLAIN = 2.0


@dataclass(frozen=True, slots=True)
class Quantisation:
    """A quantised file as its own reference, and what it was made of.

    Attributes:
        own: What the file means.
        dithered: The same with the loss of each rounding drawn anew in every run.
        original: What it was made of.
    """

    own: Reference
    dithered: Reference
    original: Reference

    @classmethod
    def of(
        cls, file: FileUnderTest, original: Reference, named: object, *, threads: int
    ) -> Self | None:
        """Take a file apart that rounds what it computes.

        Args:
            file: The file.
            original: What it is compared with.
            named: What the user named; the path of a file may be that of a quantised one.
            threads: Threads for ONNX Runtime.

        Returns:
            None where the original is quantised itself: it has the roundings of the file.
        """
        from anysize.surgery import load_model
        from anysize.validators.references.graph import (
            GraphPair,
            OnnxReference,
            dithered,
            is_quantised,
        )

        is_file = isinstance(named, (str, Path))
        if is_file and is_quantised(load_model(Path(str(named)), weights="in_file")):
            return None
        pair = GraphPair.of_file(file.path, model=file.model, threads=threads)
        noisy = pair.changed(dithered(pair.graph))
        return cls(OnnxReference(pair), OnnxReference(noisy), original)

    def judged(
        self,
        found: Sequence[CaseExpectation],
        asked: Expectations,
        saturated: Collection[str],
    ) -> tuple[CaseExpectation, ...]:
        """Say of each case what the original answers, and how far the file's numbers are from it.

        Args:
            found: What the file means.
            asked: Who asked the file about it.
            saturated: Outputs that saturate at 1.

        Raises:
            SourceError: The original does not answer in float64.
        """
        try:
            return tuple(self._told(one, asked, saturated) for one in found)
        finally:
            for reference in (self.own, self.dithered, self.original):
                reference.close()

    def _told(
        self, one: CaseExpectation, asked: Expectations, saturated: Collection[str]
    ) -> CaseExpectation:
        if not one.is_answered:
            return one
        try:
            return self._judged(one, asked, saturated)
        except (WorkerCrashedError, WorkerTimeoutError) as exc:
            return replace(one, failure=failed(exc))

    def _judged(
        self, one: CaseExpectation, asked: Expectations, saturated: Collection[str]
    ) -> CaseExpectation:
        inputs = asked.spool.inputs(one.case)
        answer = self.original.run(inputs, "float32")
        if isinstance(answer, Rejected):
            return replace(one, rejection=answer.reason)
        precise = None
        if asked.has_arbiter:
            precise = arbitrate(self.original, inputs, answer)
            asked.arbitrate(one.case)
        meant = one.read(asked.spool)
        names = self.original.output_names
        expected = Expected(
            None if names == asked.renamed else names,
            answer,
            precise,
            one.variations,
            saturated=saturated,
        )
        got = dict(zip(self.own.output_names or (), meant.float32, strict=True))
        judgement = judge(got, expected, profile=PROFILES[QUANTISED])
        if judgement.verdict is Verdict.MISMATCH:
            errors = [result.deviation.error for result in judgement.outputs]
            spreads = self._losses(inputs, meant, expected, errors)
            judgement = judge(got, replace(expected, spreads=spreads), profile=PROFILES[QUANTISED])
        return replace(one, quantisation=judgement)

    def _losses(
        self,
        inputs: dict[str, Array],
        meant: Expected,
        expected: Expected,
        errors: Sequence[float],
    ) -> tuple[float, ...]:
        """Draw what rounding costs each output, relative to the original's largest value."""
        squares, count = [0.0] * len(errors), 0
        while count < _DRAWS and not (count >= _FIRST_DRAWS and _is_plain(errors, squares, count)):
            drawn = self.dithered.run(inputs, "float32")
            if isinstance(drawn, Rejected):
                return ()
            count += 1
            for place, (one, own) in enumerate(zip(drawn, meant.float32, strict=True)):
                squares[place] += _change(one, own, expected, place) ** 2
        return tuple(math.sqrt(square / count) for square in squares)


def in_range(file: FileUnderTest, signature: GraphInputs) -> GraphInputs:
    """Let images have the pixels that a quantised file tells apart."""
    from anysize.validators.references.graph import image_range

    if signature.dtype == "uint8":
        return signature
    return replace(signature, pixels=image_range(file.model, signature.image))


def quantisation_records(found: Sequence[CaseExpectation]) -> tuple[QuantisationRecord, ...]:
    """Say of all cases how far a quantised file is from its original."""
    return tuple(
        QuantisationRecord(
            one.case.size,
            one.case.batch,
            one.quantisation.verdict,
            one.quantisation.message,
            one.quantisation.outputs,
        )
        for one in found
        if one.quantisation is not None
    )


def quantisation_note(records: Sequence[QuantisationRecord], original: str) -> tuple[str, ...]:
    """Say in a note, or none, how far a quantised file is from its original at the most."""
    found = [output for record in records for output in record.outputs]
    if not found:
        return ()
    worst = max((output.deviation for output in found), key=lambda one: one.ratio)
    shares = [output.top1_agreement for output in found if output.top1_agreement is not None]
    top1 = f"; its strongest class is the same for {np.mean(shares):.1%}" if shares else ""
    error = rounded_up(worst.error, ".2e")
    note = (
        f"quantised: what the file means is {error} of the largest output away from {original} "
        f"where its roundings may cost {worst.budget:.2e}{top1}"
    )
    vague = [str(record.size) for record in records if record.verdict is Verdict.VACUOUS]
    if not vague:
        return (note,)
    little = (
        f"quantised: that proves little at {', '.join(dict.fromkeys(vague))}, where images differ "
        "by hardly more than what roundings may cost; give real images with --inputs"
    )
    return (note, little)


def _change(drawn: Array, own: Array, expected: Expected, place: int) -> float:
    """Return by how much a draw moved an output, relative to the original's largest value."""
    if not np.issubdtype(own.dtype, np.floating):
        return 0.0
    usual = expected.float32[place]
    precise = usual if expected.float64 is None else expected.float64[place]
    change = drawn.astype(np.float64) - own.astype(np.float64)
    return float_error(precise.astype(np.float64) + change, usual, precise)


def _is_plain(errors: Sequence[float], squares: Sequence[float], count: int) -> bool:
    """Whether more draws would say nothing else, the error being far from the budget."""
    factor = PROFILES[QUANTISED].factor
    budgets = (factor * math.sqrt(square / count) for square in squares)
    return all(
        error * _PLAIN < budget or error > 2 * _PLAIN * budget
        for error, budget in zip(errors, budgets, strict=True)
    )
