"""The sizes of `auto`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anysize.sizes import MAX_SIDE, Size, SizeRange, Steps
from anysize.validators.inputs.auto import auto_sizes
from anysize.validators.inputs.cases import plan_cases

SIDES = st.integers(1, 600)


def test_a_graph_for_any_size_gets_every_kind_of_size():
    sizes = auto_sizes(Size(224, 224), legal=SizeRange(Size(32, 32)), stride=(32, 32))
    wanted = ["32x32", "31x32", "32x31", "223x223", "224x224", "225x225", "448x448", "227x227"]
    assert {Size.parse(text) for text in wanted} <= set(sizes)
    assert Size(224, 336) in sizes
    assert Size(336, 224) in sizes
    assert any(size.height % 32 and size.height % 32 != size.width % 32 for size in sizes)


def test_a_fixed_size_graph_gets_its_interval_and_the_sizes_just_outside():
    legal = SizeRange(Size(224, 224), Size(255, 255))
    sizes = auto_sizes(Size(224, 224), legal=legal, is_interval=True, folding=Size(448, 224))
    inside = {size for size in sizes if size in legal}
    assert inside >= {
        Size(224, 224),
        Size(255, 255),
        Size(224, 255),
        Size(255, 224),
        Size(225, 225),
    }
    outside = set(sizes) - inside
    just = {Size(223, 224), Size(224, 223), Size(256, 255), Size(255, 256)}
    assert outside == just | {Size(448, 224), Size(448, 448)}


def test_the_size_at_which_a_flatten_may_fold_is_tried_whatever_the_file_says():
    assert Size(52, 32) in auto_sizes(Size(32, 32), folding=Size(52, 32))


def test_a_fixed_size_graph_that_declares_nothing_gets_a_size_that_it_must_reject():
    assert Size(448, 448) in auto_sizes(Size(224, 224), is_interval=True)


@given(SIDES, SIDES, SIDES, SIDES, st.booleans())
def test_sizes_are_ordered_unique_and_at_most_one_step_outside(low, high, training, side, fixed):
    legal = SizeRange(Size(low, side), Size(low + high, side + high))
    sizes = auto_sizes(Size(training, side), legal=legal, is_interval=fixed)
    if fixed:
        sizes = tuple(size for size in sizes if size != Size(2 * training, 2 * side))
    assert list(sizes) == sorted(set(sizes), key=lambda size: (size.area, size.height))
    near = SizeRange(Size(max(low - 1, 1), max(side - 1, 1)), Size(low + high + 1, side + high + 1))
    assert all(size in near for size in sizes)
    assert any(size in legal for size in sizes)


def test_nobody_waits_for_a_side_without_an_end():
    legal = SizeRange(Size(64, 4), Size(67, MAX_SIDE))
    sizes = auto_sizes(Size(64, 64), legal=legal)
    assert max(size.width for size in sizes) <= 128
    assert {Size(67, 4), Size(68, 4), Size(63, 4)} <= set(sizes)


@given(SIDES, SIDES)
def test_a_smallest_size_of_one_pixel_has_nothing_below_it(height, width):
    sizes = auto_sizes(Size(height, width), legal=SizeRange(Size(1, 1)))
    assert all(size in SizeRange(Size(1, 1)) for size in sizes)


def test_cases_are_planned_from_the_smallest_to_the_largest_without_repeats():
    cases = plan_cases([Size(9, 9), Size(2, 3), Size(9, 9)], [2, 1, 2])
    assert [str(case) for case in cases] == [
        "2x3 batch 1",
        "2x3 batch 2",
        "9x9 batch 1",
        "9x9 batch 2",
    ]


def test_a_graph_that_takes_multiples_gets_them_and_one_side_that_is_none():
    legal = SizeRange(Size(16, 16), None, Steps(4), Steps(4))
    sizes = auto_sizes(Size(64, 64), legal=legal)
    inside = {size for size in sizes if size in legal}
    assert {Size(16, 16), Size(64, 64), Size(64, 96), Size(128, 128), Size(68, 68)} <= inside
    assert set(sizes) - inside == {Size(15, 16), Size(16, 15), Size(17, 16), Size(16, 17)}
