"""The cases of `quick`: every kind of size, smaller and fewer where a network is heavy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysize.sizes import Size, SizeRange, Steps
from anysize.validators.inputs import auto_sizes, plan_cases, quick_cases, rewrite_plan

TRAINING = Size(224, 224)
GIGA = 10**9
ANY = SizeRange(Size(32, 32))
INTERVAL = SizeRange(TRAINING, Size(255, 255))
FCN = SizeRange(TRAINING)
# Multiply-adds of VGG-16 and of a network that is light.
HEAVY, LIGHT = 15.5 * GIGA, 0.05 * GIGA


def cost(trained):
    return lambda size: int(trained * size.area / TRAINING.area)


def quick(trained, legal, **options):
    return quick_cases(TRAINING, (1, 2), cost=cost(trained), legal=legal, **options)


def images(cases):
    """How many images of the training size they are worth."""
    return sum(case.batch * case.size.area for case in cases) / TRAINING.area


def test_a_light_network_is_compared_at_all_sizes_of_auto():
    assert quick(LIGHT, ANY) == plan_cases(auto_sizes(TRAINING, legal=ANY), (1, 2))


@pytest.mark.parametrize("trained", [1.8 * GIGA, 4.1 * GIGA, HEAVY], ids=["18", "50", "vgg16"])
def test_a_heavy_network_has_every_kind_of_size_for_few_images(trained):
    cases = quick(trained, ANY)
    sizes = {case.size for case in cases}
    inside = {size for size in sizes if size in ANY}
    assert images(cases) < 5.0 < images(plan_cases(auto_sizes(TRAINING, legal=ANY), (1, 2))) / 6
    assert {TRAINING, ANY.minimum} <= inside
    assert sizes - inside == {Size(31, 32), Size(32, 31)}
    assert any(s.height > 224 and s.width > 224 and s.height % 32 and s.width % 32 for s in inside)
    assert any(s.width > s.height for s in inside)
    assert any(s.height > s.width for s in inside)
    assert {case.batch for case in cases if case.size in inside} == {1, 2}


def test_a_graph_that_takes_no_smaller_image_has_one_larger_and_one_wider_of_it():
    assert [str(case) for case in quick(HEAVY, FCN, stride=(32, 32))] == [
        "223x224 batch 1",
        "224x223 batch 1",
        "224x224 batch 1",
        "224x256 batch 2",
        "273x241 batch 1",
    ]


def test_an_interval_keeps_its_ends_its_outside_and_where_a_flatten_may_fold():
    cases = quick(HEAVY, INTERVAL, is_interval=True, folding=Size(448, 224))
    assert [str(case) for case in cases] == [
        "223x224 batch 1",
        "224x223 batch 1",
        "224x224 batch 1",
        "224x255 batch 2",
        "255x224 batch 1",
        "255x256 batch 1",
        "256x255 batch 1",
        "448x224 batch 1",
    ]


def test_a_third_number_of_images_is_tried_where_it_was_asked_for():
    cases = quick_cases(TRAINING, (1, 2, 3), cost=cost(HEAVY), legal=ANY)
    assert {case.batch for case in cases} == {1, 2, 3}


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(1, 40),
    st.sampled_from([0.0, LIGHT, 1.8 * GIGA, HEAVY]),
    st.booleans(),
)
def test_all_are_in_order_and_legal_or_one_step_outside(height, width, step, trained, is_interval):
    training = Size(height * step, width * step)
    steps = Steps(step)
    legal = SizeRange(Size(step, step), None, steps, steps)
    if is_interval:
        legal = SizeRange(training, Size(training.height + 9, training.width + 9))
    cases = quick_cases(training, (1, 2), cost=cost(trained), legal=legal, is_interval=is_interval)
    assert list(cases) == sorted(
        set(cases), key=lambda case: (case.size.area, case.size.height, case.batch)
    )
    assert training in {case.size for case in cases}
    every = {*auto_sizes(training, legal=legal, is_interval=is_interval)}
    assert all(case.size in legal or case.size in every for case in cases)


def test_a_rewrite_of_a_light_network_is_compared_at_two_images_and_off_the_grid():
    plan = rewrite_plan(TRAINING, FCN, cost=LIGHT, stride=(32, 32), is_below=False, is_full=False)
    assert plan.sizes == (Size(256, 288), Size(289, 257))
    assert (plan.trained_batch, plan.batch) == (2, 1)


def test_a_rewrite_of_a_heavy_network_stays_close_to_the_training_size():
    plan = rewrite_plan(TRAINING, ANY, cost=HEAVY, stride=(32, 32), is_below=True, is_full=False)
    assert plan.sizes == (Size(224, 256), Size(257, 256), Size(128, 96))
    assert plan.trained_batch == 1


def test_a_rewrite_in_full_is_compared_at_all_sizes_of_auto_that_it_takes():
    plan = rewrite_plan(TRAINING, FCN, cost=HEAVY, stride=(32, 32), is_below=False, is_full=True)
    every = auto_sizes(TRAINING, legal=FCN, stride=(32, 32))
    assert plan.sizes == tuple(size for size in every if size in FCN)
    assert plan.batch == 2
