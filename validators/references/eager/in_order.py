"""Sums of many numbers as a plain loop makes them: in order, in float32.

PyTorch adds up in pairs of pairs, or in float64, and loses next to nothing. A runtime that adds
one number after the other is right as well, and loses more the more numbers there are: of n equal
ones, such as the cells of a map beside what was padded, up to n/3 float32 steps, as each addition
rounds the same way while the sum is as large (Higham, The accuracy of floating point summation,
SIAM J. Sci. Comput. 14(4), 1993). With SIMD registers there are several such sums side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

__all__ = ["IN_ORDER", "LANES"]

# What is added side by side: by one number at a time, and in registers of 128, 256 and 512 bits.
LANES: Final = (1, 4, 8, 16)


def _sum(x: Tensor, axes: Sequence[int], lanes: int) -> Tensor:
    """Add up over axes, which stay with length 1."""
    last = [axis % x.dim() for axis in axes]
    first = [axis for axis in range(x.dim()) if axis not in last]
    rows = x.permute(*first, *last).reshape(-1, math.prod(x.shape[axis] for axis in last))
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % lanes))
    numbers = padded.detach().cpu().numpy().reshape(len(rows), -1, lanes)
    sums = np.add.accumulate(numbers, axis=1, dtype=np.float32)[:, -1]
    total = np.add.accumulate(sums, axis=1, dtype=np.float32)[:, -1]
    shape = [1 if axis in last else length for axis, length in enumerate(x.shape)]
    return torch.from_numpy(total.reshape(shape)).to(x.device)


def _mean(x: Tensor, axes: Sequence[int], lanes: int) -> Tensor:
    return _sum(x, axes, lanes) / math.prod(x.shape[axis] for axis in axes)


def _reduced(
    reduce: Callable[[Tensor, Sequence[int], int], Tensor],
) -> Callable[..., Tensor]:
    """Write a reduction with the arguments of PyTorch's own."""

    def reduction(lanes: int, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:  # noqa: FBT001, FBT002
        given = (dim,) if isinstance(dim, int) else dim or range(x.dim())
        axes = sorted(axis % x.dim() for axis in given)
        result = reduce(x, axes, lanes)
        return result if keepdim else result.squeeze(tuple(axes))

    return reduction


def _global_pool(lanes: int, x: Tensor, output_size: Any) -> Tensor:
    sides = (output_size,) * 2 if isinstance(output_size, int) else tuple(output_size)
    if sides != (1, 1):
        raise TypeError(sides)
    return _mean(x, (-2, -1), lanes)


def _window(
    lanes: int,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,  # noqa: FBT001, FBT002
    count_include_pad: bool = True,  # noqa: FBT001, FBT002
    divisor_override: int | None = None,
) -> Tensor:
    del stride, ceil_mode, count_include_pad
    sides, padded = (
        (one, one) if isinstance(one, int) else tuple(one) for one in (kernel_size, padding)
    )
    if sides != tuple(x.shape[-2:]) or any(padded) or divisor_override is not None:
        raise TypeError(sides)
    return _mean(x, (-2, -1), lanes)


def _normalised(x: Tensor, axes: Sequence[int], eps: float, lanes: int) -> Tensor:
    centred = x - _mean(x, axes, lanes)
    return centred / torch.sqrt(_mean(centred * centred, axes, lanes) + eps)


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _layer_norm(
    lanes: int,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    axes = range(x.dim() - len(normalized_shape), x.dim())
    return _scaled(_normalised(x, axes, eps, lanes), weight, bias)


def _group_norm(
    lanes: int,
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    groups = x.reshape(len(x), num_groups, -1)
    own = (1, -1, *[1] * (x.dim() - 2))
    factors = (one if one is None else one.reshape(own) for one in (weight, bias))
    return _scaled(_normalised(groups, (2,), eps, lanes).reshape(x.shape), *factors)


def _instance_norm(
    lanes: int,
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,  # noqa: FBT001, FBT002
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    del running_var, momentum
    if running_mean is not None or not use_input_stats:
        raise TypeError(running_mean)
    return _group_norm(lanes, x, x.shape[1], weight, bias, eps)


# Name of the function or method → the same in order. Given a number of lanes, and what PyTorch's
# own is given; a TypeError says that these are other sums than those that are written here.
IN_ORDER: Final[dict[str, Callable[..., Tensor]]] = {
    "adaptive_avg_pool2d": _global_pool,
    "avg_pool2d": _window,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "mean": _reduced(_mean),
    "sum": _reduced(_sum),
}
