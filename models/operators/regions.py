"""What the pooling operators share: the layout of `rois`, checked, and how they are registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["batch_indices", "check_regions", "pooling_operator", "regions_shape"]


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


def pooling_operator(
    name: str, forward: Callable[..., Tensor], shape: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """Register an operator that pools a feature map, with a gradient by recomputing.

    The backward pass runs `forward` again and differentiates it with respect to the feature map;
    nothing else has a gradient.

    Args:
        name: As in `torch.ops`, `anysize::roi_align`.
        forward: Plain PyTorch; the feature map is its first argument, other tensors follow, then
            the options.
        shape: Makes an empty tensor of the result's shape, from the same arguments.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
        ctx.options = [value for value in inputs if not isinstance(value, Tensor)]

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, *others = ctx.saved_tensors
        with torch.enable_grad():
            leaf = features.detach().requires_grad_()
            answer = forward(leaf, *others, *ctx.options)
            (found,) = torch.autograd.grad(answer, leaf, grad)
        return found, *(None for _ in (*others, *ctx.options))

    operator = torch.library.custom_op(name, forward, mutates_args=())
    operator.register_fake(shape)
    operator.register_autograd(backward, setup_context=keep)
    return operator


def regions_shape(
    features: Tensor, rois: Tensor, output_size: list[int], *options: object
) -> Tensor:
    """Make an empty tensor of the shape of pooled regions, after `check_regions`."""
    del options
    check_regions(features, rois, output_size)
    return features.new_empty(rois.shape[0], features.shape[1], *output_size)
