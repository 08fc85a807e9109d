"""Pooling of regions in ONNX: RoiAlign and MaxRoiPool, which are right at every size as they are.

For the operators of `anysize.models.operators`, and for torchvision's where it is installed. For
the latter torch.onnx has translations of its own, but the one of `roi_pool` expects other arguments
than the operator has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
from onnxscript import opset18

__all__ = ["REGION_OPERATORS"]


def _roi_align(
    x: Any,
    rois: Any,
    output_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,  # noqa: FBT001 - the signature of anysize.roi_align
) -> Any:
    height, width = output_size
    # Columns of `rois`: batch index, x1, y1, x2, y2.
    first, end, axis = (opset18.Constant(value_ints=[value]) for value in (1, 5, 1))
    image = opset18.Gather(rois, opset18.Constant(value_int=0), axis=1)
    return opset18.RoiAlign(
        x,
        opset18.Slice(rois, first, end, axis),
        opset18.Cast(image, to=onnx.TensorProto.INT64),
        mode="avg",
        output_height=height,
        output_width=width,
        sampling_ratio=max(sampling_ratio, 0),  # torchvision writes -1 for 0
        spatial_scale=spatial_scale,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )


def _roi_max_pool(x: Any, rois: Any, output_size: Sequence[int], spatial_scale: float) -> Any:
    return opset18.MaxRoiPool(x, rois, pooled_shape=list(output_size), spatial_scale=spatial_scale)


def _torchvision_roi_align(
    x: Any,
    rois: Any,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,  # noqa: FBT001 - the signature of torchvision.roi_align
) -> Any:
    size = (pooled_height, pooled_width)
    return _roi_align(x, rois, size, spatial_scale, sampling_ratio, aligned)


def _torchvision_roi_pool(
    x: Any, rois: Any, spatial_scale: float, pooled_height: int, pooled_width: int
) -> Any:
    values = _roi_max_pool(x, rois, (pooled_height, pooled_width), spatial_scale)
    # The operator returns (values, argmax). A module that uses argmax is refused: the second value
    # has the wrong type for it, and the checker says so.
    return values, values


# (library, operator) → translation.
REGION_OPERATORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("anysize", "roi_align"): _roi_align,
    ("anysize", "roi_max_pool"): _roi_max_pool,
    ("torchvision", "roi_align"): _torchvision_roi_align,
    ("torchvision", "roi_pool"): _torchvision_roi_pool,
}
