"""What verdicts add up to."""

from __future__ import annotations

import pytest

from anysize.validators.judging.verdicts import VERDICTS, Outcome, Verdict, exit_code


def test_every_verdict_has_a_meaning_and_every_bad_one_an_advice():
    assert set(VERDICTS) == set(Verdict)
    for meaning in VERDICTS.values():
        assert meaning.text
        assert bool(meaning.advice) == (meaning.outcome is not Outcome.GOOD)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        pytest.param([], 3, id="no cell at all"),
        pytest.param([Verdict.REJECTED], 3, id="nothing but rejections"),
        pytest.param([Verdict.PASS], 0, id="a pass"),
        pytest.param([Verdict.PASS, Verdict.REJECTED], 0, id="a pass and a rejection"),
        pytest.param([Verdict.PASS, Verdict.UNAVAILABLE], 3, id="a runtime is missing"),
        pytest.param([Verdict.PASS, Verdict.FALLBACK], 3, id="a provider fell back"),
        pytest.param([Verdict.CRASHED, Verdict.MISMATCH], 1, id="1 wins over 3"),
        pytest.param([Verdict.PASS, Verdict.VACUOUS], 1, id="a comparison that proves nothing"),
        pytest.param([Verdict.PASS, Verdict.ACCEPTED], 1, id="an answer where there is none"),
    ],
)
def test_exit_code(verdicts, code):
    assert exit_code(verdicts) == code
