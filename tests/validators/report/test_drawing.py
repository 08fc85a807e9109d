"""The plots that pages draw: where a value stands, and which ticks there are."""

from __future__ import annotations

import pytest

from anysize.sizes import Size
from anysize.validators.report import line_plot

SMALL, LARGE = Size(24, 24), Size(96, 96)


@pytest.mark.parametrize(
    ("least", "labels"),
    [
        (0.0, ["0%", "20%", "40%", "60%", "80%", "100%"]),
        (0.31, ["20%", "40%", "60%", "80%", "100%"]),
        (0.87, ["85%", "90%", "95%", "100%"]),
        (1.0, ["99%", "100%"]),
    ],
)
def test_an_axis_of_shares_reaches_from_all_down_to_the_least(least, labels):
    plot = line_plot("", "", {"a": [(LARGE, least), (SMALL, 1.0)]})
    assert [tick.label for tick in plot.y_ticks] == labels
    heights = [tick.at for tick in plot.y_ticks]
    assert heights == sorted(heights, reverse=True)
    first, last = plot.series[0].points
    assert (first.x < last.x, first.text, first.y) == (True, "24x24: 100.0%", heights[-1])
    assert heights[-1] <= last.y <= heights[0]


def test_a_plot_of_one_size_or_of_times_that_are_none_is_none():
    assert line_plot("", "", {"a": [(SMALL, 0.5)], "b": [(SMALL, 0.7)]}) is None
    assert line_plot("", "", {"a": [(SMALL, 0.0), (LARGE, 1.0)]}, unit=" ms") is None
    assert line_plot("", "", {}) is None


def test_times_stand_on_a_logarithmic_axis():
    points = [(SMALL, 1.0), (Size(48, 48), 10.0), (LARGE, 100.0)]
    low, middle, high = line_plot("", "", {"a": points}, unit=" ms").series[0].points
    assert low.y - middle.y == pytest.approx(middle.y - high.y, abs=0.2)
    assert high.text == "96x96: 100 ms"
