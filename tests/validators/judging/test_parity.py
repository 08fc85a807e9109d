"""Judging answers: structure first, then values, then whether the reference proves anything."""

from __future__ import annotations

import numpy as np
import pytest

from anysize.validators.judging.budget import PROFILES, Tolerances
from anysize.validators.judging.parity import Expected, judge, variation
from anysize.validators.judging.verdicts import Verdict

STRICT = PROFILES["strict"]
LOGITS = np.array([[0.1, 0.9, -0.4], [0.3, -0.2, 0.8]], np.float32)


def expected(*outputs, names=None, varies=1.0):
    return Expected(
        names, outputs, tuple(o.astype(np.float64) for o in outputs), (varies,) * len(outputs)
    )


def test_equal_outputs_pass_with_full_agreement():
    judgement = judge({"logits": LOGITS}, expected(LOGITS), profile=STRICT)
    assert judgement.verdict is Verdict.PASS
    assert judgement.outputs[0].top1_agreement == 1.0


def test_top1_agreement_counts_places_where_the_class_is_the_same():
    wrong = LOGITS.copy()
    wrong[1] = wrong[1, ::-1]
    judgement = judge({"logits": wrong}, expected(LOGITS), profile=STRICT)
    assert judgement.verdict is Verdict.MISMATCH
    assert judgement.outputs[0].top1_agreement == 0.5


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3, 1), (3, 2), (6,), (2, 1)], ids=str)
def test_nothing_is_broadcast_squeezed_or_transposed(shape):
    got = np.resize(LOGITS, shape)
    assert judge({"logits": got}, expected(LOGITS), profile=STRICT).verdict is Verdict.SHAPE


def test_a_single_output_may_be_called_anything():
    answer = expected(LOGITS, names=("logits",))
    assert judge({"output": LOGITS}, answer, profile=STRICT).verdict is Verdict.PASS


def test_outputs_without_reference_names_are_compared_by_position():
    answer = expected(LOGITS, LOGITS * 2)
    got = {"a": LOGITS, "b": LOGITS * 2}
    assert judge(got, answer, profile=STRICT).verdict is Verdict.PASS
    swapped = {"a": LOGITS * 2, "b": LOGITS}
    assert judge(swapped, answer, profile=STRICT).verdict is Verdict.MISMATCH


def test_an_integer_output_is_compared_exactly():
    classes = np.array([1, 2], np.int64)
    answer = expected(classes)
    assert judge({"class": classes}, answer, profile=STRICT).verdict is Verdict.PASS
    judgement = judge({"class": classes[::-1]}, answer, profile=STRICT)
    assert judgement.verdict is Verdict.MISMATCH
    assert "expected to be equal" in judgement.message


@pytest.mark.parametrize(
    ("varies", "verdict"), [(0.0, Verdict.VACUOUS), (1e-5, Verdict.VACUOUS), (1e-3, Verdict.PASS)]
)
def test_a_reference_that_hardly_varies_proves_nothing(varies, verdict):
    judgement = judge({"logits": LOGITS}, expected(LOGITS, varies=varies), profile=STRICT)
    assert judgement.verdict is verdict


def test_a_tolerance_that_a_constant_would_meet_proves_nothing():
    answer = expected(LOGITS, varies=0.1)
    loose, tight = Tolerances({"": 0.06}, {}), Tolerances({"": 0.01}, {})
    got = {"logits": LOGITS}
    assert judge(got, answer, profile=STRICT, tolerances=loose).verdict is Verdict.VACUOUS
    assert judge(got, answer, profile=STRICT, tolerances=tight).verdict is Verdict.PASS


def test_a_mismatch_is_told_before_vacuity():
    judgement = judge({"logits": LOGITS + 1}, expected(LOGITS, varies=0.0), profile=STRICT)
    assert judgement.verdict is Verdict.MISMATCH


def test_variation_is_the_change_from_one_input_to_the_next():
    other = LOGITS + np.float32(0.09)
    assert variation(LOGITS, other) == pytest.approx(0.1, rel=1e-3)
    assert variation(LOGITS, LOGITS) == 0.0


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf], ids=str)
def test_an_output_of_zeros_or_without_numbers_varies_by_nothing(value):
    array = np.full((1, 3), value, np.float32)
    assert variation(array, array) == 0.0


def test_equal_scores_for_all_classes_vary_by_nothing_whatever_the_input():
    assert variation(np.full((1, 3), 0.2, np.float32), np.full((1, 3), 0.7, np.float32)) == 0.0


def test_a_single_score_may_vary_with_the_input_alone():
    assert variation(np.full((1, 1), 0.2, np.float32), np.full((1, 1), 0.1, np.float32)) == 0.5
