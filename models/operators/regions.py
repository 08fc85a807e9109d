"""What the region operators share: the layout of `rois`, checked, and a gradient by recomputing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["batch_indices", "check_regions", "gradient", "keep_arguments"]


def check_regions(features: Tensor, rois: Tensor, output_size: list[int]) -> None:
    """Refuse what is no feature map, no list of regions or no output size.

    Raises:
        ValueError: A shape is wrong; the message says got and expected.
    """
    if features.ndim != 4:
        raise ValueError(
            f"features: got shape {tuple(features.shape)}, expected (batch, channels, height, "
            "width)"
        )
    if rois.ndim != 2 or rois.shape[1] != 5:
        raise ValueError(
            f"rois: got shape {tuple(rois.shape)}, expected (count, 5): batch index, x1, y1, x2, y2"
        )
    if len(output_size) != 2 or min(output_size) < 1:
        raise ValueError(f"output_size: got {output_size}, expected (height, width) from 1 on")


def batch_indices(rois: Tensor, batch: int) -> Tensor:
    """Return the image that each region lies in, int64 `(count,)`.

    Raises:
        ValueError: An index is not a number from 0 to `batch` − 1.
    """
    indices = rois[:, 0].to(torch.int64)
    wrong = (indices < 0) | (indices >= batch) | (indices != rois[:, 0])
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"rois: row {row} has batch index {float(rois[row, 0])}, expected a whole number from "
            f"0 to {batch - 1}"
        )
    return indices


def keep_arguments(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    """Keep what `gradient` needs: the two tensors, and the options behind them."""
    ctx.save_for_backward(*inputs[:2])
    ctx.options = inputs[2:]


def gradient(forward: Callable[..., Tensor]) -> Callable[..., tuple[Tensor | None, ...]]:
    """Make the backward function of an operator whose forward is plain PyTorch.

    The forward pass is run again and differentiated with respect to the feature map; regions and
    options have no gradient.
    """

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, rois = ctx.saved_tensors
        with torch.enable_grad():
            leaf = cast("Tensor", features.detach().requires_grad_())
            answer = forward(leaf, rois, *ctx.options)
            (found,) = torch.autograd.grad(answer, leaf, grad)
        return found, None, *(None for _ in ctx.options)

    return backward
