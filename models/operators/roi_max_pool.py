"""RoI max pooling: the maximum of each bin of a region.

Girshick, "Fast R-CNN", ICCV 2015; ONNX `MaxRoiPool`.

A region's corners are rounded to cells, halves away from zero, and both belong to it, so it has
x2 − x1 + 1 columns, at least one. Bin i of n over a cells spans ⌊i·a/n⌋ to ⌈(i+1)·a/n⌉; what lies
outside the map is left out, and a bin without a cell is 0. Bounds are computed in whole numbers.
The original, and with it torchvision and ONNX Runtime, computes them in float32, where
⌈7 · (57/7)⌉ is 58: for seven bins over 57, 114, 121, 228, … cells its last bin has one cell more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anysize.models.operators.regions import (
    batch_indices,
    check_regions,
    pooling_operator,
    regions_shape,
)

__all__ = ["roi_max_pool"]


def roi_max_pool(
    features: Tensor, rois: Tensor, output_size: tuple[int, int], *, spatial_scale: float
) -> Tensor:
    """Pool each region of a feature map to `output_size` by the maximum of each bin.

    Args:
        features: `(batch, channels, height, width)`, float32 or float64.
        rois: `(count, 5)`: batch index, x1, y1, x2, y2 in pixels of the image.
        output_size: Bins along height and width.
        spatial_scale: Cells of the map per pixel of the image: 1 / stride.

    Returns:
        `(count, channels, *output_size)`; 0 where a bin lies outside the map.

    Raises:
        ValueError: A shape or a batch index is wrong.
    """
    return _operator(features, rois, list(output_size), spatial_scale)


def _roi_max_pool(
    features: Tensor, rois: Tensor, output_size: list[int], spatial_scale: float
) -> Tensor:
    check_regions(features, rois, output_size)
    batch, channels, height, width = features.shape
    images = batch_indices(rois, batch)
    corners = _round_half_away(rois[:, 1:] * spatial_scale)
    first_row, end_row = _bin_bounds(corners[:, 1], corners[:, 3], output_size[0], height)
    first_column, end_column = _bin_bounds(corners[:, 0], corners[:, 2], output_size[1], width)
    if not len(rois):
        return features.new_zeros(0, channels, *output_size)
    # (count, bins, channels, width), then (count, bins, channels, bins).
    rows = _running_maximum(features.permute(0, 2, 1, 3), images, first_row, end_row)
    count = torch.arange(len(rois), device=rois.device)
    both = _running_maximum(rows.permute(0, 3, 2, 1), count, first_column, end_column)
    pooled = both.permute(0, 2, 3, 1)
    is_empty = (end_row <= first_row)[:, :, None] | (end_column <= first_column)[:, None, :]
    return pooled.masked_fill(is_empty[:, None], 0.0)


def _running_maximum(lines: Tensor, source: Tensor, first: Tensor, end: Tensor) -> Tensor:
    """Maximum over the lines of each bin; any line where a bin is empty.

    Args:
        lines: `(maps, cells, …)`: the axis to pool comes second.
        source: The map that each region reads, `(count,)`.
        first: First cell of each bin, `(count, bins)`.
        end: The cell after its last one.

    Returns:
        `(count, bins, …)`.
    """
    last = (end - 1).clamp(0, lines.shape[1] - 1)
    first = first.clamp(max=lines.shape[1] - 1)
    pooled = lines[source[:, None], first]
    for offset in range(1, int((end - first).max())):
        pooled = torch.maximum(pooled, lines[source[:, None], torch.minimum(first + offset, last)])
    return pooled


def _round_half_away(values: Tensor) -> Tensor:
    """Round to int64, halves away from zero as C does; `torch.round` takes them to even."""
    whole = values.trunc()
    return (whole + values.sign() * ((values - whole).abs() >= 0.5)).to(torch.int64)


def _bin_bounds(start: Tensor, end: Tensor, bins: int, cells: int) -> tuple[Tensor, Tensor]:
    """First cell of each bin and the cell after its last one, `(count, bins)`, inside the map."""
    length = (end - start + 1).clamp(min=1)[:, None]
    index = torch.arange(bins, device=start.device)
    first = torch.div(index * length, bins, rounding_mode="floor")
    after = torch.div((index + 1) * length + bins - 1, bins, rounding_mode="floor")
    return (
        (first + start[:, None]).clamp(0, cells),
        (after + start[:, None]).clamp(0, cells),
    )


_operator = pooling_operator("anysize::roi_max_pool", _roi_max_pool, regions_shape)
