"""Windows that slide over an image axis: convolutions and poolings, with PyTorch's arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from anysize.surgery.graph import attribute

__all__ = ["POOLING", "SlidingWindow", "sliding_windows"]

POOLING = frozenset({"AveragePool", "LpPool", "MaxPool"})


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """One axis of a convolution or pooling.

    Attributes:
        kernel: Taps of the window.
        stride: Cells between neighbouring windows.
        dilation: Cells between neighbouring taps.
        pad_begin: Cells added before the axis.
        pad_end: Cells added after it.
        has_ceil: Whether a last, incomplete window counts.
        is_same: Whether the padding is chosen so that ⌈cells / stride⌉ windows fit.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    pad_begin: int = 0
    pad_end: int = 0
    has_ceil: bool = False
    is_same: bool = False

    @property
    def extent(self) -> int:
        """Cells from a window's first tap to its last, inclusive."""
        return self.dilation * (self.kernel - 1) + 1

    def output_cells(self, cells: int) -> int:
        """Count the windows over an axis of `cells`; below 1 where PyTorch refuses.

        PyTorch's formula: ⌊(cells + pads − dilation·(kernel − 1) − 1) / stride⌋ + 1; rounded up
        for `has_ceil`, less a last window that starts in the padding after the axis.
        """
        if self.is_same:
            return -(-cells // self.stride)
        room = cells + self.pad_begin + self.pad_end - self.extent
        if room < 0 and not self.has_ceil:
            return 0
        if not self.has_ceil:
            return room // self.stride + 1
        windows = -(-room // self.stride) + 1
        if (windows - 1) * self.stride >= cells + self.pad_begin:
            windows -= 1
        return windows


def sliding_windows(
    node: onnx.NodeProto, kernel_shape: Sequence[int] | None = None
) -> tuple[SlidingWindow, ...]:
    """Read the windows of a Conv or pooling node, one for each spatial axis.

    Args:
        node: A Conv, or one of `POOLING`.
        kernel_shape: The spatial dims of a Conv's weight, where the node does not repeat them.

    Raises:
        ValueError: Kernel, strides, dilations and pads do not fit together.
    """
    kernel = _integers(node, "kernel_shape") or list(kernel_shape or ())
    axes = len(kernel)
    strides = _integers(node, "strides") or [1] * axes
    dilations = _integers(node, "dilations") or [1] * axes
    pads = _integers(node, "pads") or [0] * (2 * axes)
    auto_pad = attribute(node, "auto_pad", "NOTSET")
    if auto_pad != "NOTSET":
        pads = [0] * (2 * axes)
    fits = len(strides) == len(dilations) == axes and len(pads) == 2 * axes
    if not axes or not fits or min(*kernel, *strides, *dilations) < 1:
        raise ValueError(
            f"kernel {kernel}, strides {strides}, dilations {dilations} and pads {pads} "
            "do not fit together"
        )
    return tuple(
        SlidingWindow(
            kernel=kernel[axis],
            stride=strides[axis],
            dilation=dilations[axis],
            pad_begin=pads[axis],
            pad_end=pads[axes + axis],
            has_ceil=bool(attribute(node, "ceil_mode", 0)),
            is_same=auto_pad in ("SAME_UPPER", "SAME_LOWER"),
        )
        for axis in range(axes)
    )


def _integers(node: onnx.NodeProto, name: str) -> list[int]:
    value = attribute(node, name)
    return [int(entry) for entry in value] if isinstance(value, (list, tuple)) else []
