"""Functions that torch.onnx cannot translate, or only for one size, written with others.

Each computes the same while a module is traced (torch 2.13, onnxscript 0.7):

- fused attention on other than four axes is refused;
- unfolding and folding become indices, which are laid out for the map that was traced. They are a
  convolution, and a transposed one, with one window for each cell of it;
- windows of a tensor that overlap are slices of it, one for each cell of a window: where the last
  window begins is counted from the end;
- the grid of an affine map is laid out for the map that was traced; it is the places of the cells,
  times the map;
- to squeeze an axis that has more than one cell changes nothing; ONNX refuses it.

Distances are computed in one of two ways, by how many there are; the one for many is for all.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor

from anysize.exporters.tracing.replaced_functions import FunctionTable

__all__ = ["PLAIN_FUNCTIONS", "SETTLED_FUNCTIONS"]


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    if query.dim() == key.dim() == value.dim() == 4 or len(args) > 1 or not _is_plain(options):
        return F.scaled_dot_product_attention(query, key, value, *args, **options)
    mask = args[0] if args else options.get("attn_mask")
    scale = options.get("scale")
    factor: float = query.shape[-1] ** -0.5 if scale is None else scale
    scores: Tensor = query @ key.transpose(-2, -1) * factor
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(mask.logical_not(), float("-inf"))
    elif mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ value


def _is_plain(options: dict[str, Any]) -> bool:
    return not any(options.get(name) for name in ("dropout_p", "is_causal", "enable_gqa"))


def _unfold(
    input: Tensor,  # noqa: A002 - the signature of F.unfold
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    if input.dim() != 4:
        return F.unfold(input, kernel_size, dilation, padding, stride)
    channels = input.shape[1]
    windows = _windows(input, channels, kernel_size)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": channels}
    return F.conv2d(input, windows, **options).flatten(2)


def _fold(
    input: Tensor,  # noqa: A002 - the signature of F.fold
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    if input.dim() != 3:
        return F.fold(input, output_size, kernel_size, dilation, padding, stride)
    sides, kernel, dilated, padded, step = map(
        _pair, (output_size, kernel_size, dilation, padding, stride)
    )
    counts = [
        (sides[axis] + 2 * padded[axis] - dilated[axis] * (kernel[axis] - 1) - 1) // step[axis] + 1
        for axis in (0, 1)
    ]
    channels = input.shape[1] // (kernel[0] * kernel[1])
    folded = F.conv_transpose2d(
        input.reshape(input.shape[0], input.shape[1], *counts),
        _windows(input, channels, kernel),
        stride=step,
        output_padding=[one - 1 for one in step],
        groups=channels,
        dilation=dilated,
    )
    return folded[:, :, padded[0] :, padded[1] :][:, :, : sides[0], : sides[1]]


def _overlapping(input: Tensor, dimension: int, size: int, step: int) -> Tensor:  # noqa: A002
    if size <= step or dimension < 0:
        return input.unfold(dimension, size, step)
    before = (slice(None),) * dimension
    ends = (one - size + 1 or None for one in range(size))
    cells = [input[(*before, slice(one, end, step))] for one, end in enumerate(ends)]
    return torch.stack(cells, -1)


def _affine_grid(theta: Tensor, size: Any, align_corners: bool | None = None) -> Tensor:  # noqa: FBT001
    if len(size) != 4 or theta.dim() != 3:
        return F.affine_grid(theta, size, align_corners)
    kept = {"dtype": theta.dtype, "device": theta.device}
    y, x = (_centres(side, bool(align_corners), **kept) for side in size[2:])
    across, down, shift = (column.view(-1, 1, 1, 2) for column in theta.unbind(2))
    return x.view(1, 1, -1, 1) * across + y.view(1, -1, 1, 1) * down + shift


def _centres(length: Any, align_corners: bool, **kept: Any) -> Tensor:  # noqa: FBT001
    """Return where cells lie, -1 and 1 being the edges, or the centres of the outer cells.

    A single cell lies at 0.
    """
    from_middle: Tensor = torch.arange(length, **kept) * 2 + (1 - length)
    over: Tensor | float = length
    if align_corners:
        over = torch.clamp(torch.arange(length - 1, length, **kept), min=1)
    return from_middle / over


def _squeezed(input: Tensor, dim: Any = None) -> Tensor:  # noqa: A002
    if dim is None:
        return input.squeeze()
    ones = [
        one for one in (dim if isinstance(dim, (tuple, list)) else (dim,)) if input.shape[one] == 1
    ]
    return input.squeeze(ones[0] if len(ones) == 1 else tuple(ones)) if ones else input


def _distances(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    settled = compute_mode or "use_mm_for_euclid_dist_if_necessary"
    return torch.cdist(x1, x2, p, settled.removesuffix("_if_necessary"))


def _windows(like: Tensor, channels: int, kernel_size: Any) -> Tensor:
    """Make a window for each of its cells, 1 there, as weights (channels · cells, 1, …)."""
    height, width = _pair(kernel_size)
    ones = torch.eye(height * width, dtype=like.dtype, device=like.device)
    return ones.view(-1, 1, height, width).repeat(channels, 1, 1, 1)


def _pair(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


# Where a module is looked at, too.
SETTLED_FUNCTIONS: FunctionTable = {torch.cdist: _distances}
PLAIN_FUNCTIONS: FunctionTable = {
    **SETTLED_FUNCTIONS,
    F.scaled_dot_product_attention: _attention,
    F.unfold: _unfold,
    F.fold: _fold,
    F.affine_grid: _affine_grid,
    Tensor.unfold: _overlapping,
    Tensor.squeeze: _squeezed,
    torch.squeeze: _squeezed,
}
