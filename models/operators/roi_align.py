"""RoIAlign: the average of bilinear samples in each bin of a region.

He, Gkioxari, Dollár, Girshick, "Mask R-CNN", ICCV 2017; ONNX `RoiAlign` with mode `avg`.

A bilinear sample is a product of two weights, one along height and one along width, and so is the
average over a grid of samples. With A of shape (bins, height) and B of shape (bins, width) the
pooled region is A · X · Bᵀ: two matrix products read the map once whatever the number of samples.
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

__all__ = ["roi_align"]


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    *,
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Tensor:
    """Pool each region of a feature map to `output_size` by averaged bilinear samples.

    Args:
        features: `(batch, channels, height, width)`, float32 or float64.
        rois: `(count, 5)`: batch index, x1, y1, x2, y2 in pixels of the image.
        output_size: Bins along height and width.
        spatial_scale: Cells of the map per pixel of the image: 1 / stride.
        sampling_ratio: Samples in a bin along each axis; 0 takes ⌈side of the bin⌉ of them.
        aligned: Pixel centres lie at half-integers (`half_pixel` in ONNX); otherwise coordinates
            are not shifted, and a region is at least one cell wide (`output_half_pixel`).

    Returns:
        `(count, channels, *output_size)`. A sample more than one cell outside the map is 0.

    Raises:
        ValueError: A shape or a batch index is wrong.
    """
    return _operator(features, rois, list(output_size), spatial_scale, sampling_ratio, aligned)


def _roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: list[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,  # noqa: FBT001 - an operator's schema has no keyword-only booleans
) -> Tensor:
    check_regions(features, rois, output_size)
    batch, channels, height, width = features.shape
    images = batch_indices(rois, batch)
    corners = rois[:, 1:].to(features.dtype) * spatial_scale - (0.5 if aligned else 0.0)
    rows = _bin_weights(
        corners[:, 1], corners[:, 3], output_size[0], height, sampling_ratio, aligned
    )
    columns = _bin_weights(
        corners[:, 0], corners[:, 2], output_size[1], width, sampling_ratio, aligned
    )
    pooled = features.new_zeros(len(rois), channels, *output_size)
    for image in range(batch):
        chosen = (images == image).nonzero()[:, 0]
        if not len(chosen):
            continue
        cells = features[image].permute(1, 0, 2).reshape(height, channels * width)
        along = rows[chosen].reshape(-1, height) @ cells
        along = along.reshape(len(chosen), output_size[0] * channels, width)
        both = along @ columns[chosen].transpose(1, 2)
        both = both.reshape(len(chosen), output_size[0], channels, output_size[1])
        pooled = pooled.index_copy(0, chosen, both.permute(0, 2, 1, 3))
    return pooled


def _bin_weights(
    start: Tensor,
    end: Tensor,
    bins: int,
    cells: int,
    sampling_ratio: int,
    aligned: bool,  # noqa: FBT001
) -> Tensor:
    """Weight of each cell in each bin along one axis: `(count, bins, cells)`."""
    length = end - start
    if not aligned:
        length = length.clamp(min=1.0)
    size = length / bins
    if sampling_ratio > 0:
        samples = torch.full_like(size, sampling_ratio)
    else:
        samples = size.ceil().clamp(min=0.0)
    most = int(samples.max()) if len(samples) else 0
    steps = torch.arange(most, device=start.device, dtype=start.dtype)
    first = (
        start[:, None] + torch.arange(bins, device=start.device, dtype=start.dtype) * size[:, None]
    )
    inside = (steps + 0.5) * size[:, None] / samples[:, None].clamp(min=1.0)
    place = first[:, :, None] + inside[:, None, :]  # (count, bins, samples)
    counts = (steps < samples[:, None])[:, None, :] & (place >= -1.0) & (place <= cells)
    place = place.clamp(0.0, cells - 1.0)[..., None]
    grid = torch.arange(cells, device=start.device, dtype=start.dtype)
    weights = (1.0 - (place - grid).abs()).clamp(min=0.0) * counts[..., None]
    return weights.sum(2) / samples[:, None, None].clamp(min=1.0)


_operator = pooling_operator("anysize::roi_align", _roi_align, regions_shape)
