"""What the reference is asked, in which order: every case in float32, float64 where it matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from anysize.sizes import MAX_SIDE, Size, SizeRange
from anysize.validators.inputs import Case, is_heavy
from anysize.validators.judging import PROFILES
from anysize.validators.run.case_expectation import CaseExpectation
from anysize.validators.run.expectation import Expectations
from anysize.validators.run.spool import FLOAT64
from anysize.validators.run.steps import IN_FLOAT32, IN_FLOAT64, REFERENCE, Steps, Work

__all__ = ["ask_all"]

# Pixels from a size to a larger one of the same remainders.
_FURTHER = 256


def ask_all(
    asked: Expectations,
    cases: Sequence[Case],
    *,
    declared: SizeRange | None,
    required: Callable[[Size], bool],
    training: Size | None,
    sizes: str,
    is_amplified: bool,
    work: Work,
    step: Steps,
) -> tuple[CaseExpectation, ...]:
    """Ask about all cases, and about one of brighter images.

    Args:
        asked: Asks the reference.
        cases: From the smallest size on.
        declared: The sizes that the file declares legal.
        required: Says of a size whether the file has to take it where the reference does.
        training: The training size.
        sizes: `auto`, `quick`, or "" where somebody named the sizes.
        is_amplified: Add a case of brighter images.
        work: What runs take.
        step: Told before each run.

    Raises:
        SourceError: The reference answers differently each time, or not in float64.
    """
    found = _ask(asked, cases, declared, required, is_named=not sizes, step=step, work=work)
    twin = _usual(found, training, work.cost if sizes == "quick" else None)
    if twin is not None and is_amplified and found[twin].is_answered:
        usual = found[twin].case
        step(f"reference at {usual} bright", REFERENCE, work.run(usual, IN_FLOAT32))
        amplified = asked.ask_amplified(usual)
        if amplified is not None:
            found.insert(twin + 1, amplified)
    return _decided(asked, asked.settled(found), work, step)


def _ask(
    asked: Expectations,
    cases: Sequence[Case],
    declared: SizeRange | None,
    required: Callable[[Size], bool],
    *,
    is_named: bool,
    step: Steps,
    work: Work,
) -> list[CaseExpectation]:
    """Ask about every case; a size outside what the file declares has to be rejected.

    Bounds that the user wanted are part of the file's promise, and somebody who named the sizes is
    told which of them the file alone rejects. Within these bounds the reference is asked, too.
    """
    found = []
    taken: dict[Size, bool] = {}

    def takes(size: Size) -> bool:
        """Whether the reference takes a size; nobody has planned to ask."""
        case, amount = Case(size, 1), work.run(Case(size, 1))
        step.add(1, REFERENCE, amount)
        step(f"reference at {case}", REFERENCE, amount)
        return asked.takes(case)

    for case in cases:
        if declared is None or case.size in declared:
            step(f"reference at {case}", REFERENCE, work.run(case, IN_FLOAT32))
            # Another file rejects no more than its layers do: the size is at fault, not its kind.
            promised = declared is not None and case.batch == 1 and asked.reference.kind == "onnx"
            found.append(replace(asked.ask(case), is_promised=promised))
            continue
        step(f"images of {case}", REFERENCE)
        outside = asked.ask_outside(case, declared)
        low = declared.minimum
        is_below = case.size.height < low.height or case.size.width < low.width
        # Below the least size PyTorch may go on with empty maps, which no runtime has to.
        is_required = not is_below and required(case.size)
        if (is_named or is_required) and case.size not in taken:
            further = _further(case.size, declared)
            taken[case.size] = takes(case.size) and (further is None or takes(further))
        found.append(replace(outside, is_taken=is_required and taken[case.size]))
    noted = dict.fromkeys(
        str(one.case.size) for one in found if taken.get(one.case.size) and not one.is_taken
    )
    if noted:
        asked.notes.append(
            f"the file declares sizes {declared}, so that it must reject {', '.join(noted)}; "
            "the reference takes them"
        )
    return found


def _further(size: Size, declared: SizeRange) -> Size | None:
    """Return a larger size of the same remainders, where remainders are what excludes `size`.

    A map of few cells may broadcast by chance, or be empty, where a larger one does not fit.
    """
    if size.height in declared.heights and size.width in declared.widths:
        return None
    height, width = (
        side + _FURTHER // steps.step * steps.step
        for side, steps in ((size.height, declared.heights), (size.width, declared.widths))
    )
    return Size(min(height, MAX_SIDE), min(width, MAX_SIDE))


def _usual(
    found: Sequence[CaseExpectation],
    training: Size | None,
    cost: Callable[[Size], int] | None,
) -> int | None:
    """Choose the case that stands for the others: of the training size, or of a smaller one.

    A larger size would tell no more, and take longer. None where the reference takes none of them.
    With `cost`, of a heavy network the largest case that costs a quarter of it, if there is one.
    """
    taken = [place for place, one in enumerate(found) if one.is_answered]
    batch = min((found[place].case.batch for place in taken), default=0)
    single = [place for place in taken if found[place].case.batch == batch]
    if not single:
        return None
    trained = [place for place in single if found[place].case.size == training]
    usual = trained[0] if trained else single[len(single) // 3]
    if cost is None:
        return usual
    prices = {place: found[place].case.batch * cost(found[place].case.size) for place in taken}
    if not is_heavy(prices[usual]):
        return usual
    cheap = (place for place in taken if 4 * prices[place] <= prices[usual])
    return max(cheap, key=prices.__getitem__, default=usual)


def _decided(
    asked: Expectations, found: Sequence[CaseExpectation], work: Work, step: Steps
) -> tuple[CaseExpectation, ...]:
    """Ask in float64 about the cases that hardly vary, which every runtime would do one by one."""
    due = [one.case for one in found if asked.is_undecided(one, PROFILES["strict"])]
    step.add(len(due), FLOAT64, sum(work.run(case, IN_FLOAT64) for case in due))
    decided = []
    for one in found:
        if one.case in due:
            step(f"reference at {one.case} in float64", FLOAT64, work.run(one.case, IN_FLOAT64))
            decided.append(asked.arbitrated(one))
        else:
            decided.append(one)
    return tuple(decided)
