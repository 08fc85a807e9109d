"""Adaptive max pooling, and pyramids of it, by slices.

The maximum over a rectangle is the maximum over its columns of the maximum over its rows, so a
level of h×w bins is h slices of the map and w slices of what they leave. Levels nest: every bin of
level n is the union of the bins k·i … k·i+k−1 of level k·n, because ⌊i·a/n⌋ = ⌊k·i·a/(k·n)⌋. So a
pyramid (4, 2, 1) reads the map once, for level 4, and pools 4×4 cells for the others.
"""

from __future__ import annotations

from collections.abc import Mapping

from anysize.surgery.operators.bins import bin_bounds
from anysize.surgery.operators.emitter import Emitter
from anysize.surgery.operators.spellings import axis_length, reduce_axis, slice_axis, split_ones

__all__ = ["emit_max_pyramid", "reduce_bins"]


def _reduce_axis(emitter: Emitter, source: str, axis: int, count: int, output: str = "") -> str:
    """Emit the maximum of `source` over each of `count` bins along `axis`."""
    if count == 1:
        return reduce_axis(emitter, "ReduceMax", source, axis, output=output)
    first, end = bin_bounds(emitter, axis_length(emitter, source, axis), count)
    return reduce_bins(emitter, source, axis, first, end, count=count, output=output)


def reduce_bins(
    emitter: Emitter,
    source: str,
    axis: int,
    first: str,
    end: str,
    *,
    count: int,
    output: str = "",
) -> str:
    """Emit the maximum of `source` over each bin along `axis`, by one slice for each.

    Args:
        emitter: Where the nodes go.
        source: Tensor name.
        axis: Along which the bins lie.
        first: First cell of each bin, int64 (count,).
        end: The cell after its last one, int64 (count,).
        count: Number of bins.
        output: Name of the result; a free one by default.
    """
    firsts = split_ones(emitter, first, count)
    ends = split_ones(emitter, end, count)
    maxima = [
        reduce_axis(emitter, "ReduceMax", slice_axis(emitter, source, f, e, axis), axis)
        for f, e in zip(firsts, ends, strict=True)
    ]
    return emitter.node("Concat", *maxima, output=output, axis=axis)


def emit_max_pyramid(
    emitter: Emitter, source: str, *, outputs: Mapping[tuple[int, int], str]
) -> None:
    """Emit adaptive max pooling of `source` (batch, channels, height, width) to several sizes.

    Args:
        emitter: Where the nodes go.
        source: The map's tensor name.
        outputs: For each (rows, columns) of bins, the name of the pooled tensor
            (batch, channels, rows, columns); 0 bins keep the cells of an axis as they are.
    """
    done: dict[tuple[int, int], str] = {}
    for level in sorted(outputs, key=lambda bins: bins[0] * bins[1], reverse=True):
        if 0 in level:
            _keep_axis(emitter, source, level, outputs[level])
            continue
        finer = [
            bins for bins in done if bins[0] % level[0] == 0 == bins[1] % level[1]
        ]  # coarse after fine, so a multiple is already there
        if finer:
            nearest = min(finer, key=lambda bins: bins[0] * bins[1])
            window = [nearest[0] // level[0], nearest[1] // level[1]]
            emitter.node(
                "MaxPool",
                done[nearest],
                output=outputs[level],
                kernel_shape=window,
                strides=window,
            )
        elif level == (1, 1):
            emitter.node("GlobalMaxPool", source, output=outputs[level])
        else:
            rows = _reduce_axis(emitter, source, 2, level[0])
            _reduce_axis(emitter, rows, 3, level[1], outputs[level])
        done[level] = outputs[level]


def _keep_axis(emitter: Emitter, source: str, level: tuple[int, int], output: str) -> None:
    """Emit maxima over the bins of one axis, or of none."""
    if not any(level):
        emitter.node("Identity", source, output=output)
        return
    axis = 2 if level[0] else 3
    _reduce_axis(emitter, source, axis, level[axis - 2], output)
