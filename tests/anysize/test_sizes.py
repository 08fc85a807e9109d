"""Sizes are read as they are written, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysize.errors import UsageError
from anysize.sizes import MAX_SIDE, Size, SizeRange, parse_sizes, to_sizes

SIDES = st.integers(1, MAX_SIDE)
SIZES = st.builds(Size, SIDES, SIDES)


@given(size=SIZES)
def test_a_size_reads_back_as_it_was_written(size):
    assert Size.parse(str(size)) == size


@pytest.mark.parametrize(
    "text",
    ["", "224", "224x", "x224", "0x5", "-3x4", "1.5x2", "224*224", "99999x3", "٣x٣", "3x4x5"],
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
    "sizes",
    ["8x9,10x11", ["8x9", (10, 11)], (Size(8, 9), [10, 11])],
    ids=str,
)
def test_callers_give_sizes_as_they_like(sizes):
    assert to_sizes(sizes) == (Size(8, 9), Size(10, 11))


def test_what_is_no_size_is_said():
    assert to_sizes("auto") == "auto"
    assert to_sizes(Size(8, 9)) == (Size(8, 9),)
    for wrong in ([8, 9], [(8, 9, 10)], [(8.0, 9.0)], [None]):
        with pytest.raises(UsageError, match=r"expected a Size, HEIGHTxWIDTH, or \("):
            to_sizes(wrong)


def test_a_list_of_sizes_keeps_its_order_and_drops_repeats():
    sizes = parse_sizes("5x4, 3x2,5x4,")
    assert [str(size) for size in sizes] == ["5x4", "3x2"]


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_an_empty_list_of_sizes_is_refused(text):
    with pytest.raises(UsageError, match="expected a list"):
        parse_sizes(text)
