"""Sizes are read as they are written, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysize.errors import UsageError
from anysize.sizes import MAX_SIDE, Size, SizeRange, Steps, to_sizes

SIDES = st.integers(1, MAX_SIDE)
SIZES = st.builds(Size, SIDES, SIDES)


@given(size=SIZES)
def test_a_size_reads_back_as_it_was_written(size):
    assert Size.parse(str(size)) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "224x",
        "x224",
        "(3)",
        "(3, 4",
        "3, 4",
        "(3, 4, 5)",
        "0x5",
        "-3x4",
        "1.5x2",
        "224*224",
        "99999x3",
        "٣x٣",
        "3x4x5",
    ],
)
def test_what_is_not_a_size_is_refused_in_one_line(text):
    with pytest.raises(UsageError) as error:
        Size.parse(text)
    assert "\n" not in str(error.value)
    assert "expected" in str(error.value)


@given(low=SIZES, size=SIZES)
def test_an_unbounded_range_holds_every_size_that_is_larger_both_ways(low, size):
    expected = size.height >= low.height and size.width >= low.width
    assert (size in SizeRange(low)) == expected


@given(a=SIZES, b=SIZES, size=SIZES)
def test_a_bounded_range_is_the_product_of_its_axes(a, b, size):
    low = Size(min(a.height, b.height), min(a.width, b.width))
    top = Size(max(a.height, b.height), max(a.width, b.width))
    inside = low.height <= size.height <= top.height and low.width <= size.width <= top.width
    assert (size in SizeRange(low, top)) == inside


def test_a_range_that_ends_before_it_begins_is_refused():
    with pytest.raises(UsageError, match="below the smallest"):
        SizeRange(Size(4, 4), Size(3, 9))


@pytest.mark.parametrize(
    "size", ["8x9", "8 x 9", "(8, 9)", "[8,9]", "Size(8, 9)", (8, 9), [8, 9], Size(8, 9)], ids=repr
)
def test_a_size_is_written_as_its_caller_likes(size):
    assert Size.of(size) == Size(8, 9)
    assert to_sizes([size, 10]) == (Size(8, 9), Size(10, 10))
    if isinstance(size, str):
        assert to_sizes(f"10,{size},(7, 6)") == (Size(10, 10), Size(8, 9), Size(7, 6))


@pytest.mark.parametrize("side", ["8", 8])
def test_one_number_is_the_side_of_a_square(side):
    assert Size.of(side) == Size(8, 8)
    assert to_sizes(side) == (Size(8, 8),)
    assert to_sizes([side, 9]) == (Size(8, 8), Size(9, 9))


@pytest.mark.parametrize(
    "sizes",
    ["8x9,10x11", ["8x9", (10, 11)], (Size(8, 9), [10, 11])],
    ids=str,
)
def test_callers_give_sizes_as_they_like(sizes):
    assert to_sizes(sizes) == (Size(8, 9), Size(10, 11))


def test_what_is_no_size_is_said():
    assert to_sizes("auto") == "auto"
    assert to_sizes(Size(8, 9)) == (Size(8, 9),)
    for wrong in ([(8, 9, 10)], [(8.0, 9.0)], [None], [True], [8.0]):
        with pytest.raises(UsageError, match=r"one number for a square, \(height, width\), or"):
            to_sizes(wrong)


def test_a_list_of_sizes_keeps_its_order_and_drops_repeats():
    sizes = to_sizes("5x4, 3x2,5x4,")
    assert [str(size) for size in sizes] == ["5x4", "3x2"]


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_an_empty_list_of_sizes_is_refused(text):
    with pytest.raises(UsageError, match="expected a list"):
        to_sizes(text)


STEPS = st.integers(1, 12).flatmap(
    lambda step: st.builds(
        Steps,
        st.just(step),
        st.sets(st.integers(0, step - 1), min_size=1).map(lambda found: tuple(sorted(found))),
    )
)


@given(steps=STEPS)
def test_steps_read_back_as_they_were_written(steps):
    assert Steps.parse(steps.written()) == steps


@pytest.mark.parametrize("text", ["", "4", "4:", "0:0", "4:4", "4:-1", ":0", "4:0;", "99999999:0"])
def test_what_makes_no_steps_is_refused(text):
    with pytest.raises(UsageError):
        Steps.parse(text)


@given(one=STEPS, other=STEPS, side=st.integers(1, 400))
def test_sides_of_both_steps_are_in_their_meeting(one, other, side):
    try:
        both = one & other
    except UsageError:
        assert not (side in one and side in other)
        return
    assert (side in both) == (side in one and side in other)


@given(steps=STEPS, side=st.integers(1, 400))
def test_the_nearest_side_is_possible_and_none_lies_between(steps, side):
    up = steps.from_(side)
    assert up in steps
    assert not any(between in steps for between in range(side, up))


@given(low=SIZES, steps=STEPS, height=st.integers(1, 400), width=st.integers(1, 400))
def test_the_nearest_size_of_a_set_is_in_it(low, steps, height, width):
    sizes = SizeRange(Size(steps.from_(min(low.height, 99)), steps.from_(5)), None, steps, steps)
    assert sizes.near(height, width) in sizes


def test_a_set_is_printed_as_people_say_it():
    assert str(SizeRange(Size(64, 64), None, Steps(4), Steps(4))) == "64x64 and up, multiples of 4"
    odd = Steps(4, (0, 1, 3))
    assert str(SizeRange(Size(3, 3), None, odd, odd)).endswith(
        ", 0, 1 or 3 more than multiples of 4"
    )
    mixed = SizeRange(Size(32, 1), Size(32, 64), Steps(1), Steps(8))
    assert str(mixed) == "32x1 to 32x64, heights any, widths multiples of 8"


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        (SizeRange(Size(32, 8), Size(32, MAX_SIDE)), "height 32, width 8 and up"),
        (SizeRange(Size(4, 9), Size(MAX_SIDE, 20)), "height 4 and up, width 9 to 20"),
        (
            SizeRange(Size(32, 4), Size(32, MAX_SIDE), Steps(1), Steps(4)),
            "height 32, width 4 and up in multiples of 4",
        ),
    ],
)
def test_a_range_without_an_end_along_one_axis_names_the_axes(sizes, text):
    assert str(sizes) == text
