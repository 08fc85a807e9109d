"""The reference's part of a validation: images and expected outputs, once for each case."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from anysize.errors import WorkerCrashedError, WorkerTimeoutError
from anysize.sizes import Size, SizeRange
from anysize.validators.inputs import Case, GraphInputs, make_inputs
from anysize.validators.judging import (
    DeclaredShape,
    Expected,
    Judgement,
    Profile,
    Tolerances,
    Verdict,
    is_plain,
    is_telling,
)
from anysize.validators.references import Reference, Rejected
from anysize.validators.run.amplified import NO_AMPLIFIED, amplify, is_less_sure, overflows
from anysize.validators.run.arbiter import arbitrate, refuse_random
from anysize.validators.run.case_expectation import CaseExpectation, failed
from anysize.validators.run.spool import FLOAT32, FLOAT64, ROUNDED, Spool
from anysize.validators.run.spread import Draws, judge_by_spread
from anysize.validators.run.vacuity import WholeNumbers, vary

__all__ = ["Expectations"]

Array = NDArray[np.generic]

# Pixels of a network that takes their logarithm, or a root: not 0, at which it has none.
_POSITIVE = (2.0**-8, 1.0)


@dataclass(slots=True)
class Expectations:
    """Asks a reference about one case after the other, from the smallest size on.

    Images and answers go to the spool. Each size is run once more in float32 on images of another
    seed, unless several images are asked about, and the first case is repeated, to find a reference
    that proves nothing.

    Attributes:
        reference: The original.
        spool: Receives images and outputs.
        signature: What the graph under test takes.
        has_arbiter: Run the reference in float64, too, wherever its word may change a verdict.
        arbitrates_all: Run it in float64 at every case.
        several: Sizes at which several images will be asked about.
        is_repeatable: It is known to answer alike each time.
        trusts_whole_numbers: Outputs of whole numbers count as varying until `settled` says how
            they do over all cases.
        rounded: The original with float16 weights, for a file in half precision.
        given: Inputs that stand in for the seeded ones of the only case.
        renamed: What the outputs were called before the user gave them other names.
        notes: What the reader of the verdicts has to know.
    """

    reference: Reference
    spool: Spool
    signature: GraphInputs
    _: KW_ONLY
    has_arbiter: bool = True
    arbitrates_all: bool = True
    several: Collection[Size] = ()
    is_repeatable: bool = False
    trusts_whole_numbers: bool = False
    rounded: Reference | None = None
    given: Mapping[str, Array] | None = None
    renamed: tuple[str, ...] | None = None
    notes: list[str] = field(default_factory=list, init=False)
    _varies: dict[Size, tuple[float, ...]] = field(default_factory=dict, init=False)
    _whole: WholeNumbers = field(default_factory=WholeNumbers, init=False)
    _draws: dict[Case, Draws] = field(default_factory=dict, init=False)

    def ask(self, case: Case) -> CaseExpectation:
        """Make the images of a case, and let the reference answer.

        A reference that ends its process, or takes too long, fails at this case alone.

        Raises:
            SourceError: The reference answers differently each time, or not in float64.
        """
        try:
            return self._answered(case)
        except (WorkerCrashedError, WorkerTimeoutError) as exc:
            return CaseExpectation(case, None, failure=failed(exc))

    def _answered(self, case: Case) -> CaseExpectation:
        inputs = self._made(case)
        answer = self.reference.run(inputs, "float32")
        if isinstance(answer, Rejected):
            return CaseExpectation(case, answer.reason)
        if _has_nan(answer) and self.given is None and self.signature.pixels is None:
            inputs, answer = self._of_positive(case, inputs, answer)
        if not self.is_repeatable:
            refuse_random(self.reference, inputs, answer)
            self.is_repeatable = True
        precise = self._precise(inputs, answer)
        coarse = self.rounded.run(inputs, "float32") if self.rounded is not None else None
        self._store(case, answer, precise, coarse)
        if case.batch > 1 or case.size not in self.several:
            self._vary(case, answer, precise)
        return self._taken(case, self._varies.get(case.size, ()))

    def _of_positive(
        self, case: Case, inputs: Mapping[str, Array], answer: tuple[Array, ...]
    ) -> tuple[Mapping[str, Array], tuple[Array, ...]]:
        """Ask about positive pixels, and of none but such ones from here on, if that helps.

        A network that begins with a logarithm has no number for the others.
        """
        usual = self.signature
        self.signature = replace(usual, pixels=_POSITIVE)
        others = make_inputs(case, self.signature, self.signature.seed)
        positive = self.reference.run(others, "float32")
        if isinstance(positive, Rejected) or _has_nan(positive):
            self.signature = usual
            return inputs, answer
        self.spool.write_inputs(case, others)
        least, largest = _POSITIVE
        self.notes.append(
            f"images have pixels of {least:.3g} to {largest:.3g} from {case} on: of negative ones "
            "the reference makes NaN"
        )
        return others, positive

    def _precise(
        self, inputs: Mapping[str, Array], answer: tuple[Array, ...]
    ) -> tuple[Array, ...] | None:
        """Ask in float64 where it is due in any case."""
        if not self.has_arbiter or (is_plain(answer) and not self.arbitrates_all):
            return None
        return arbitrate(self.reference, inputs, answer)

    def _vary(
        self, case: Case, answer: tuple[Array, ...], precise: tuple[Array, ...] | None
    ) -> None:
        if case.size not in self._varies:
            self._varies[case.size] = vary(
                self.reference,
                answer,
                precise,
                partial(make_inputs, case, self.signature, beside=self.given),
                batch=case.batch,
                seed=self.signature.vacuity_seed,
                whole=np.inf if self.trusts_whole_numbers else None,
                single=self.spool.read(replace(case, batch=1), FLOAT32),
            )

    def arbitrate(self, case: Case) -> None:
        """Ask in float64 about a case that has been asked about in float32, once.

        Raises:
            SourceError: The reference does not answer in float64.
        """
        if not self.spool.files(case, FLOAT64):
            inputs, float32 = self.spool.inputs(case), self.spool.read(case, FLOAT32)
            self.spool.write(case, FLOAT64, arbitrate(self.reference, inputs, float32))

    def arbitrated(self, one: CaseExpectation) -> CaseExpectation:
        """Ask in float64 about a case; a reference that ends its process fails at it alone.

        Raises:
            SourceError: The reference does not answer in float64.
        """
        try:
            self.arbitrate(one.case)
        except (WorkerCrashedError, WorkerTimeoutError) as exc:
            return replace(one, failure=failed(exc))
        return one

    def is_undecided(self, one: CaseExpectation, profile: Profile) -> bool:
        """Whether float64 has to say of a case whether agreement tells anything there."""
        is_due = self.has_arbiter and one.is_answered
        if not is_due or is_telling(one.variations, profile):
            return False
        return not self.spool.files(one.case, FLOAT64)

    def judge(
        self,
        one: CaseExpectation,
        got: Mapping[str, Array],
        *,
        profile: Profile,
        tolerances: Tolerances | None = None,
        declared: Mapping[str, DeclaredShape] = MappingProxyType({}),
        saturated: Collection[str] = (),
    ) -> Judgement:
        """Judge an answer; the reference is asked once more where it is not near enough.

        Args:
            one: What has been asked about.
            got: The runtime's answer, by the names of the outputs.
            profile: The error profile of the runtime.
            tolerances: The user's own, in the place of the budget.
            declared: The shapes of the outputs, as the file declares them.
            saturated: Outputs that saturate at 1.

        Raises:
            SourceError: The reference does not answer in float64.
            WorkerCrashedError: It ends its process there.
            WorkerTimeoutError: It takes too long.
        """
        expected = replace(one.read(self.spool), saturated=saturated)

        def arbitrated() -> Expected:
            self.arbitrate(one.case)
            return replace(one.read(self.spool), saturated=saturated)

        is_due = self.has_arbiter and expected.float64 is None
        judgement = judge_by_spread(
            got,
            expected,
            partial(self.spreads, one.case),
            profile=profile,
            tolerances=tolerances,
            declared=declared,
            arbitrated=arbitrated if is_due else None,
        )
        is_wrong = one.case.is_amplified and judgement.verdict is not Verdict.PASS
        if is_wrong and self.has_arbiter and self._is_less_sure(one.case):
            return Judgement(Verdict.PASS, "", judgement.outputs)
        return judgement

    def _is_less_sure(self, case: Case) -> bool:
        """Whether amplified images make the reference itself far less sure of its numbers.

        A network that amplifies rounding errors would blame the runtime for its own.
        """
        twin = replace(case, is_amplified=False)
        pairs = []
        for one in (case, twin):
            self.arbitrate(one)
            pairs += [self.spool.read(one, label) for label in (FLOAT32, FLOAT64)]
        if not is_less_sure(*pairs):
            return False
        note = f"{NO_AMPLIFIED}: the reference itself is less sure of its numbers there"
        if note not in self.notes:
            self.notes.append(note)
        return True

    def ask_outside(self, case: Case, declared: SizeRange) -> CaseExpectation:
        """Make the images of a case that the file itself declares illegal: it has to reject it."""
        self._made(case)
        return CaseExpectation(case, f"the file declares sizes {declared}")

    def takes(self, case: Case) -> bool:
        """Whether the reference answers a case that is not compared, image by image.

        A flatten that folds a larger map into the batch has more answers than images.
        """
        inputs = self.given or make_inputs(case, self.signature, self.signature.seed)
        try:
            answer = self.reference.run(inputs, "float32")
        except (WorkerCrashedError, WorkerTimeoutError):
            return False
        if isinstance(answer, Rejected):
            return False
        return {one.shape[:1] for one in answer} <= {one.shape[:1] for one in inputs.values()}

    def ask_amplified(self, twin: Case) -> CaseExpectation | None:
        """Make other, brighter images of a size and a batch, and let the reference answer.

        Args:
            twin: The case on usual images, which has been asked about.

        Returns:
            What it says; None where there is no such case, which is noted.
        """
        case = replace(twin, is_amplified=True)
        try:
            inputs, answer = amplify(case, self.reference, self.signature, self._whole)
            if isinstance(answer, Rejected):
                self.notes.append(f"{NO_AMPLIFIED}: the reference rejects them ({answer.reason})")
                return None
            if overflows(answer, self.spool.read(twin, FLOAT32)):
                self.notes.append(f"{NO_AMPLIFIED}: the reference overflows on them")
                return None
            precise = self._precise(inputs, answer)
        except (WorkerCrashedError, WorkerTimeoutError) as exc:
            return CaseExpectation(case, None, failure=failed(exc))
        self.spool.write_inputs(case, inputs)
        self._store(case, answer, precise, None)
        # Amplified scores may be saturated, and need not vary.
        return self._taken(case, tuple(np.inf for _ in answer))

    def spreads(self, case: Case, expected: Expected, errors: Sequence[float]) -> tuple[float, ...]:
        """Let the reference answer a case with roundings that fall otherwise; see `Draws`."""
        draws = self._draws.setdefault(case, Draws())
        try:
            return draws.spreads(self.reference, self.spool.inputs(case), expected, errors)
        except (WorkerCrashedError, WorkerTimeoutError):
            return ()

    def settled(self, found: Sequence[CaseExpectation]) -> tuple[CaseExpectation, ...]:
        """Say of all cases how they vary, once all of them have been asked about.

        Whole numbers that have been the same ones for every image do not.
        """
        constant = self._whole.constant if self.trusts_whole_numbers else ()
        return tuple(
            replace(
                one,
                variations=tuple(
                    0.0 if place in constant else varies
                    for place, varies in enumerate(self._variations(one))
                ),
            )
            for one in found
        )

    def _variations(self, one: CaseExpectation) -> tuple[float, ...]:
        if one.variations or not one.is_answered:
            return one.variations
        answer, precise = (self.spool.read(one.case, label) for label in (FLOAT32, FLOAT64))
        self._vary(one.case, answer, precise or None)  # unless several images said it
        return self._varies[one.case.size]

    def _made(self, case: Case) -> Mapping[str, Array]:
        inputs = self.given or make_inputs(case, self.signature, self.signature.seed)
        self.spool.write_inputs(case, inputs)
        return inputs

    def _store(
        self,
        case: Case,
        float32: tuple[Array, ...],
        float64: tuple[Array, ...] | None,
        rounded: tuple[Array, ...] | Rejected | None,
    ) -> None:
        self._whole.add(float32)
        self.spool.write(case, FLOAT32, float32)
        if float64 is not None:
            self.spool.write(case, FLOAT64, float64)
        if isinstance(rounded, tuple):
            self.spool.write(case, ROUNDED, rounded)

    def _taken(self, case: Case, variations: tuple[float, ...]) -> CaseExpectation:
        names = self.reference.output_names
        return CaseExpectation(case, None, None if names == self.renamed else names, variations)


def _has_nan(answer: tuple[Array, ...]) -> bool:
    return any(np.issubdtype(one.dtype, np.floating) and np.isnan(one).any() for one in answer)
