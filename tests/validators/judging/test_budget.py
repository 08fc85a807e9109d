"""The arithmetic of the error budget, by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anysize.validators.judging.budget import (
    EPS32,
    PROFILES,
    Tolerance,
    exact_deviation,
    fill_values,
    float_deviation,
)

STRICT = PROFILES["strict"]
VALUES = st.floats(-1e6, 1e6, width=32)
ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5), elements=VALUES
)


def strict(got, float32, float64=None, **options):
    return float_deviation(got, float32, float64, profile=STRICT, **options)


@given(ARRAYS)
def test_the_reference_itself_passes(reference):
    deviation = strict(reference, reference, reference.astype(np.float64))
    assert deviation.is_within
    assert deviation.error == 0.0


@given(ARRAYS, st.floats(0, 1e-3), st.floats(0, 1e-3), st.integers(0, 2**32 - 1))
def test_the_verdict_is_the_published_inequality(truth, own, noise, seed):
    generator = np.random.default_rng(seed)
    y64 = truth.astype(np.float64)
    y32 = (y64 * (1 + own * generator.uniform(-1, 1, y64.shape))).astype(np.float32)
    got = (y64 * (1 + noise * generator.uniform(-1, 1, y64.shape))).astype(np.float32)
    s = np.abs(y64).max()
    assume(s > 0)
    assume(not fill_values(y32, y64).any())
    e_ref = np.abs(y32.astype(np.float64) - y64).max() / s
    error = np.abs(got.astype(np.float64) - y64).max() / s
    deviation = strict(got, y32, y64)
    assert deviation.error == pytest.approx(error)
    assert deviation.reference_error == pytest.approx(e_ref)
    assert deviation.budget == pytest.approx(8 * max(e_ref, 4 * EPS32))
    assert deviation.is_within == (deviation.error <= deviation.budget)


def test_a_spread_enlarges_the_budget_and_decisions_that_turn_over_do_not():
    truth = np.array([1.0, -2.0])
    y32 = truth.astype(np.float32)
    for spread, counted in ((0.0, 4 * EPS32), (1e-5, 1e-5), (0.5, 64 * 4 * EPS32)):
        deviation = strict(y32, y32, truth, spread=spread)
        assert deviation.budget == pytest.approx(8 * counted)


@pytest.mark.parametrize("scale", [1.0, 0.1, 1e-3, 1e-6])
def test_a_probability_may_be_off_by_the_steps_of_one(scale):
    truth = np.array([scale, scale / 3])
    y32 = truth.astype(np.float32)
    usual, saturated = (strict(y32, y32, truth, saturates=one) for one in (False, True))
    assert usual.budget == pytest.approx(32 * EPS32)
    assert saturated.budget * scale == pytest.approx(max(32 * EPS32 * scale, 4 * EPS32))


@given(ARRAYS, st.integers(-20, 20))
def test_a_power_of_two_changes_no_verdict(truth, exponent):
    got = truth * np.float32(1 + 1e-5)
    scale = np.float32(2.0**exponent)
    assume(np.abs(truth).max() > 1e-20)
    assume(not fill_values(truth, truth.astype(np.float64)).any())
    assume(not fill_values(truth * scale, (truth * scale).astype(np.float64)).any())
    before = strict(got, truth, truth.astype(np.float64))
    after = strict(got * scale, truth * scale, (truth * scale).astype(np.float64))
    assert before.ratio == pytest.approx(after.ratio, rel=1e-6)


@given(ARRAYS, st.data())
def test_the_worst_element_is_the_one_that_was_changed(truth, data):
    place = data.draw(st.tuples(*(st.integers(0, n - 1) for n in truth.shape)))
    got = truth.copy()
    got[place] += np.float32(1e7)
    deviation = strict(got, truth, truth.astype(np.float64))
    assert deviation.index == place
    assert deviation.got == got[place]
    assert deviation.expected == truth[place]
    assert not deviation.is_within


@given(ARRAYS, st.floats(0, 1e3, width=32), st.floats(0, 1))
def test_a_tolerance_is_the_usual_inequality_against_the_float32_reference(ref, atol, rtol):
    got = (ref * np.float32(1.01) + np.float32(0.5)).astype(np.float32)
    deviation = strict(got, ref, ref * 100.0, tolerance=Tolerance(atol, rtol))
    distance = np.abs(got.astype(np.float64) - ref)
    allowed = atol + rtol * np.abs(ref.astype(np.float64))
    assume(not np.isclose(distance, allowed).any())
    assert deviation.is_within == bool((distance <= allowed).all())


@given(ARRAYS)
def test_the_tolerance_that_is_called_needed_passes_and_half_of_it_does_not(ref):
    got = (ref + np.float32(3.0)).astype(np.float32)
    needed = strict(got, ref).needed_atol
    assert strict(got, ref, tolerance=Tolerance(needed, 0.0)).is_within
    assert not strict(got, ref, tolerance=Tolerance(needed / 2, 0.0)).is_within


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_nan_or_inf_that_the_reference_lacks_is_outside_any_budget(value):
    reference = np.ones((2, 3), np.float32)
    got = reference.copy()
    got[1, 2] = value
    for options in ({}, {"tolerance": Tolerance(1e30, 1e30)}):
        deviation = strict(got, reference, reference.astype(np.float64), **options)
        assert not deviation.is_within
        assert deviation.index == (1, 2)
        assert deviation.non_finite


def test_a_nan_or_inf_that_the_reference_has_is_left_out():
    reference = np.array([1.0, np.nan, np.inf, -np.inf], np.float32)
    assert strict(reference, reference, reference.astype(np.float64)).is_within


@pytest.mark.parametrize("swap", [(1, 2), (2, 3), (0, 1)], ids=["nan inf", "signs", "finite nan"])
def test_another_non_finite_value_than_the_references_is_outside(swap):
    reference = np.array([1.0, np.nan, np.inf, -np.inf], np.float32)
    got = reference.copy()
    got[list(swap)] = got[list(reversed(swap))]
    assert not strict(got, reference, reference.astype(np.float64)).is_within


def test_a_reference_that_is_zero_everywhere_allows_nothing_but_zero():
    zero = np.zeros((1, 4), np.float32)
    assert strict(zero, zero, zero.astype(np.float64)).is_within
    deviation = strict(zero + np.float32(1e-30), zero, zero.astype(np.float64))
    assert not deviation.is_within
    assert deviation.error == np.inf


def test_a_float32_reference_that_is_off_where_the_truth_is_zero_gives_no_budget_away():
    zero = np.zeros((1, 4), np.float32)
    assert not strict(zero + 1, zero + 1, zero.astype(np.float64)).is_within


def test_a_reference_with_a_large_error_of_its_own_widens_the_budget():
    truth = np.array([1.0, 2.0])
    reference = np.array([1.0, 2.002], np.float32)
    got = np.array([1.0, 2.01], np.float32)
    assert strict(got, reference, truth).is_within
    assert not strict(got, truth.astype(np.float32), truth).is_within


@pytest.mark.parametrize("fill", [-1e9, float(np.finfo(np.float32).min), 65504.0])
def test_a_fill_value_hides_nothing(fill):
    truth = np.random.default_rng(0).standard_normal((2, 40))
    truth[:, ::7] = fill
    reference = truth.astype(np.float32)
    wide = np.where(truth < -1e30, np.finfo(np.float64).min, truth)
    assert np.array_equal(fill_values(reference, wide), truth == fill)
    assert strict(reference, reference, wide).ratio <= 1 / 8 + 1e-9
    off = (truth * np.where(truth == fill, 1.0, 1.0001)).astype(np.float32)
    found = strict(off, reference, wide)
    assert found.scale < 10
    assert not found.is_within
    halved = np.where(truth == fill, reference / 2, reference)
    assert not strict(halved, reference, wide).is_within


def test_a_mask_that_is_added_is_a_fill_value():
    truth = np.random.default_rng(0).standard_normal((2, 40))
    truth[:, ::7] -= 1e9
    reference = truth.astype(np.float32)
    assert np.array_equal(fill_values(reference, truth), truth < -1e8)
    assert strict(reference, reference, truth).budget < 1e-5


def test_saturated_probabilities_are_no_fill_values():
    probabilities = np.array([[1.0, 1e-20, 1e-22]])
    assert not fill_values(probabilities.astype(np.float32), probabilities).any()


def test_an_empty_output_has_nothing_to_be_wrong():
    empty = np.zeros((0, 4), np.float32)
    assert strict(empty, empty).is_within


def test_integers_are_equal_or_wrong():
    expected = np.array([[3, 5], [7, 9]], np.int64)
    assert exact_deviation(expected, expected).is_within
    deviation = exact_deviation(expected + np.array([[0, 0], [1, 0]]), expected)
    assert not deviation.is_within
    assert (deviation.index, deviation.got, deviation.expected) == ((1, 0), 8.0, 7.0)


def test_booleans_are_equal_or_wrong():
    expected = np.array([True, False])
    assert exact_deviation(expected, expected).is_within
    assert not exact_deviation(~expected, expected).is_within
