"""Answers near the float32 reference pass without float64, and only where it would let them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysize.validators.judging import PROFILES, Expected, Verdict, is_plain, judge, judge_near

STRICT = PROFILES["strict"]
EPS32 = 2.0**-23


def expected(truth, own_error, *, varies=1.0, saturated=()):
    """What a reference answers that is off by `own_error` of its largest value."""
    float32 = truth.copy()
    float32[0, 0] += own_error * np.max(np.abs(truth))
    single = float32.astype(np.float32)
    return Expected(None, (single,), (truth,), (varies,), saturated=saturated)


def without(one):
    return Expected(one.names, one.float32, None, one.variations, saturated=one.saturated)


@given(
    st.floats(0, 1e-2),
    st.floats(-64 * EPS32, 64 * EPS32),
    st.floats(1e-6, 1.0),
    st.sampled_from(["strict", "tf32", "tensorrt"]),
)
def test_what_passes_without_float64_is_within_the_budget_with_it(
    own_error, moved, varies, profile
):
    truth = np.random.default_rng(1).standard_normal((2, 5))
    one = expected(truth, own_error, varies=varies)
    got = one.float32[0].copy()
    got[1, 2] += np.float32(moved * np.max(np.abs(truth)))
    near = judge_near({"y": got}, without(one), profile=PROFILES[profile])
    if near is not None:
        # Where e_ref is large the budget would let anything pass; what passed was held to less.
        full = judge({"y": got}, one, profile=PROFILES[profile])
        assert full.verdict in (Verdict.PASS, Verdict.VACUOUS)


@pytest.mark.parametrize(("steps", "is_near"), [(23, True), (25, False)])
def test_it_ends_at_six_times_the_floor(steps, is_near):
    one = expected(np.array([[2.0, 1.0]]), 0.0)
    got = one.float32[0] + np.float32([[0.0, steps * EPS32 * 2.0]])
    found = judge_near({"y": got}, without(one), profile=STRICT)
    assert (found is not None) is is_near


def test_what_hardly_varies_is_left_to_float64():
    """A graph without an input is off by half of the variation, which 24 steps have to notice."""
    one = expected(np.array([[2.0, 1.0]]), 0.0, varies=6e-5)
    got = {"y": one.float32[0]}
    assert judge_near(got, without(one), profile=STRICT) is None
    surer = expected(np.array([[2.0, 1.0]]), 0.0, varies=7e-5)
    assert judge_near(got, without(surer), profile=STRICT) is not None
    midpoint = surer.float32[0] + np.float32([[0.0, 3.5e-5 * 2.0]])
    assert judge_near({"y": midpoint}, without(surer), profile=STRICT) is None


def test_a_probability_may_be_no_further_for_being_small():
    one = expected(np.array([[1e-3, 9e-4]]), 0.0, saturated=("y",))
    got = one.float32[0] * np.float32(1 + 1e-5)
    assert judge_near({"y": got}, without(one), profile=STRICT) is None


def test_nan_inf_and_fill_values_are_not_plain():
    assert is_plain((np.float32([1.0, 2.0]), np.array([3])))
    for written in (np.nan, np.inf, -1e9):
        assert not is_plain((np.float32([1.0, written]),))
