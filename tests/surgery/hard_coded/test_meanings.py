"""What a Reshape means at every size is worked out from one size, or it is not said."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from anysize.surgery.hard_coded.meanings import grows, lengths, meanings

BATCH, HEIGHT, WIDTH = (1, 3, 5, 7), (8, 16, 40, 15), (8, 24, 16, 25)


def at(axes, case):
    return [math.prod(piece[case] for piece in axis) for axis in axes]


@st.composite
def baked(draw):
    """Axes of a tensor, and those of the same pieces grouped anew, as a Reshape would."""
    numbers = st.integers(2, 6).map(lambda n: (n,) * 4)
    pieces = [BATCH, *draw(st.permutations([HEIGHT, WIDTH, *draw(st.lists(numbers, max_size=3))]))]

    def grouped():
        axes = [[BATCH]]
        for piece in pieces[1:]:
            if len(axes) > 1 and draw(st.booleans()):
                axes[-1].append(piece)
            else:
                axes.append([piece])
        return tuple(tuple(axis) for axis in axes)

    return grouped(), grouped()


@settings(max_examples=200, deadline=None)
@given(baked())
def test_what_was_baked_at_one_size_is_read_back_for_all(case):
    before, after = case
    (found,) = meanings(before, at(after, 0))
    for other in range(4):
        assert at(found, other) == at(after, other)


@settings(max_examples=200, deadline=None)
@given(baked(), st.data())
def test_no_reading_changes_the_number_of_elements(case, data):
    before, _ = case
    elements = math.prod(at(before, 0))
    target = []
    while elements > 1:
        side = data.draw(st.sampled_from([n for n in range(1, elements + 1) if elements % n == 0]))
        target.append(side)
        elements //= side
        if len(target) > 6:
            break
    target.append(elements)
    for found in meanings(before, target):
        assert at(found, 0) == target
        for other in range(1, 4):
            assert math.prod(at(found, other)) == math.prod(at(before, other))


def test_a_square_map_keeps_height_before_width():
    channels = ((58,) * 4, (2,) * 4)
    (found,) = meanings([(BATCH,), channels[:1], channels[1:], (HEIGHT,), (WIDTH,)], [1, 116, 64])
    assert [lengths(axis, 4) for axis in found][2] == tuple(
        h * w for h, w in zip(HEIGHT, WIDTH, strict=True)
    )


def test_half_of_a_height_is_read_in_two_ways_where_both_are_whole():
    even = (8, 16, 40, 24)
    found = meanings([(BATCH,), (even,)], [1, 4, 2])
    assert [at(axes, 1) for axes in found] == [[3, 8, 2], [3, 4, 4]]
    assert not any(grows(lengths(found[0][2], 4)) for _ in found)


def test_a_batch_that_would_have_to_be_transposed_is_not_read():
    assert meanings([(BATCH,), ((4,) * 4,), (HEIGHT,)], [4, 1, 8]) == ()


def test_a_batch_with_two_places_is_read_in_two_ways():
    found = meanings([(HEIGHT,), (BATCH,), ((6,) * 4,)], [8, 2, 3])
    assert [at(axes, 1) for axes in found] == [[48, 2, 3], [16, 6, 3]]
