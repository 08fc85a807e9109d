"""What is left is estimated from multiply-adds and the speed of the runs so far."""

from __future__ import annotations

import pytest

from anysize.sizes import Size
from anysize.validators import validate_model
from anysize.validators.inputs import Case
from anysize.validators.run.steps import IN_FLOAT32, Steps, Work

GIGA = 10**9
REFERENCE = "reference"
CASES = [Case(Size(side, side), batch) for side in (1, 2, 4, 8) for batch in (1, 2)]


def told(durations):
    """Run all cases on a clock of our own; return what was told, and when."""
    now, seen = 0.0, []
    work = Work(lambda size: size.area * GIGA, 0)
    runs = {REFERENCE: IN_FLOAT32, "ort-cpu": 1.0}
    steps = Steps(
        lambda step: seen.append((now, step)),
        total=2 * len(CASES),
        work={phase: sum(work.run(c, times) for c in CASES) for phase, times in runs.items()},
        clock=lambda: now,
    )
    for phase, times in runs.items():
        for case in CASES:
            steps(f"{phase} at {case}", phase, work.run(case, times))
            now += durations[phase] * case.batch * case.size.area
    return seen, now


@pytest.mark.parametrize("runtime_s", [0.3, 0.5, 0.8])
def test_the_estimate_holds_within_a_factor_of_two(runtime_s):
    """The reference answers twice for each run of a runtime that is about as fast."""
    seen, end = told({REFERENCE: 1.0, "ort-cpu": runtime_s})
    estimates = [(step.remaining_s, end - now) for now, step in seen if step.remaining_s]
    assert len(estimates) > len(CASES)
    for estimate, left in estimates:
        assert left / 2 < estimate < 2 * left


def test_a_runtime_that_is_faster_than_thought_is_measured_by_itself():
    seen, end = told({REFERENCE: 1.0, "ort-cpu": 0.01})
    now, last = seen[-1]
    assert last.remaining_s == pytest.approx(end - now, rel=0.1)


def test_nothing_is_estimated_before_there_is_something_measured():
    seen, _ = told({REFERENCE: 1.0, "ort-cpu": 1.0})
    assert seen[0][1].remaining_s is None
    assert told({REFERENCE: 1e-6, "ort-cpu": 1e-6})[0][-1][1].remaining_s is None


def test_a_validation_names_each_run_and_plans_as_many(tiny):
    seen = []
    sizes = (Size(8, 8), Size(9, 9), Size(30, 30))
    validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), sizes=sizes, progress=seen.append)
    assert [step.done for step in seen] == list(range(seen[0].total))
    texts = [step.text for step in seen]
    assert "reference at 8x8 batch 1 bright" in texts
    assert "ort-cpu at 9x9 batch 2" in texts


def test_a_count_never_passes_its_total():
    seen = []
    steps = Steps(seen.append, total=2, work={})
    for text in "abcd":  # two more than were planned
        steps(text)
    assert [(step.done, step.total) for step in seen] == [(0, 2), (1, 2), (2, 3), (3, 4)]
