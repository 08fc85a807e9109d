"""The roi head: regions are pooled to the trained map, then the unchanged FC layers follow.

Girshick, "Fast R-CNN", ICCV 2015 (max pooling); He et al., "Mask R-CNN", ICCV 2017 (RoIAlign).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anysize.errors import UsageError
from anysize.models.heads.head import HeadParts, HeadRequest
from anysize.models.heads.layers import linear_layers
from anysize.models.operators import roi_align, roi_max_pool
from anysize.sizes import Size

__all__ = ["RegionAlign", "RegionMaxPool", "roi"]


class RegionMaxPool(nn.Module):
    """RoI max pooling.

    Args:
        size: Bins along height and width.
        stride: Pixels of the image between neighbouring cells of the map.
    """

    def __init__(self, size: Size, stride: int) -> None:
        super().__init__()
        self.size = (size.height, size.width)
        self.stride = stride

    def forward(self, feature_map: Tensor, rois: Tensor) -> Tensor:
        """Pool regions `(count, 5)` to `(count, channels · height · width)`."""
        pooled = roi_max_pool(feature_map, rois, self.size, spatial_scale=1.0 / self.stride)
        return torch.flatten(pooled, 1)

    def extra_repr(self) -> str:
        """Show the pooled size and the scale in the module's print."""
        return f"size={self.size}, stride={self.stride}"


class RegionAlign(RegionMaxPool):
    """RoIAlign with pixel centres at half-integers (`half_pixel` in ONNX).

    Args:
        size: Bins along height and width.
        stride: Pixels of the image between neighbouring cells of the map.
        sampling_ratio: Samples in a bin along each axis; 0 takes as many as the bin has cells.
    """

    def __init__(self, size: Size, stride: int, sampling_ratio: int) -> None:
        super().__init__(size, stride)
        self.sampling_ratio = sampling_ratio

    def forward(self, feature_map: Tensor, rois: Tensor) -> Tensor:
        """Pool regions `(count, 5)` to `(count, channels · height · width)`."""
        scale = 1.0 / self.stride
        pooled = roi_align(
            feature_map, rois, self.size, spatial_scale=scale, sampling_ratio=self.sampling_ratio
        )
        return torch.flatten(pooled, 1)

    def extra_repr(self) -> str:
        """Show the pooled size, the scale and the samples in the module's print."""
        return f"{super().extra_repr()}, sampling_ratio={self.sampling_ratio}"


def roi(request: HeadRequest) -> HeadParts:
    """Build the FC layers behind the pooling of regions to the trained map; an fc checkpoint fits.

    Raises:
        UsageError: The pooling is neither `align` nor `max`, or the sampling ratio is negative.
    """
    kind, ratio = request.options.roi, request.options.sampling_ratio
    if kind not in {"align", "max"}:
        raise UsageError(f"roi {kind!r}: expected 'align' or 'max'")
    if ratio < 0:
        raise UsageError(f"roi sampling_ratio {ratio}: expected a number from 1, or 0 for all")
    pool = (
        RegionAlign(request.map_size, request.stride, ratio)
        if kind == "align"
        else RegionMaxPool(request.map_size, request.stride)
    )
    features = request.channels * request.map_size.area
    return HeadParts(
        pool=pool,
        layers=linear_layers(request.classifier, features, request.classes),
    )
