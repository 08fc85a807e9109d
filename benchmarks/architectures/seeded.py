"""Seeded weights for architectures that are measured, not trained.

Parity on outputs that vanish, or that hardly depend on the image, proves nothing. So: Kaiming
weights and biases that are not zero, and batch normalisation whose running statistics are those of
the signal, as in a trained network. They are taken from a pass over seeded images. A channel that
those images hardly excite would be amplified by hundreds where other images do, and once more in
each layer behind (EfficientNet ends at 1e11), so no variance is far below those beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

__all__ = ["seeded"]

_Module = TypeVar("_Module", bound=nn.Module)
_BIAS_STD = 0.1
_LEAST_VARIANCE = 0.25  # relative to the mean of the layer's channels
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_PRODUCTS = (nn.Conv2d, nn.Linear, nn.RNNBase, nn.MultiheadAttention)
_AFFINE = (*_NORMS, nn.LayerNorm, nn.GroupNorm)


@torch.no_grad()
def seeded(
    module: _Module,
    *,
    sizes: Sequence[int] = (64,),
    channels: int = 3,
    batch: int = 4,
    seed: int = 0,
    images: Sequence[torch.Tensor] = (),
) -> _Module:
    """Fill the parameters and buffers of `module` and return it in evaluation mode.

    Args:
        module: On the CPU; filled in place.
        sizes: Heights and widths of the images that batch normalisation sees, in as many passes.
        channels: Channels of the image.
        batch: Number of those images.
        seed: Equal seeds give equal weights.
        images: What batch normalisation sees instead of noise. Attention averages noise away, and
            would be amplified by what other images come to.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        for name, tensor in layer.named_parameters(recurse=False):
            if name == "bias":
                tensor.normal_(0.0, _BIAS_STD, generator=generator)
            elif isinstance(layer, _AFFINE) and tensor.any():
                tensor.uniform_(0.8, 1.2, generator=generator)
            elif tensor.dim() > 1 and isinstance(layer, _PRODUCTS):
                bound = math.sqrt(6 / tensor[0].numel())
                is_gain = tensor[0].numel() == 1  # of weights normalised in use
                tensor.uniform_(*((0.8, 1.2) if is_gain else (-bound, bound)), generator=generator)
            else:  # a scale of a residual branch; those of normalisations begin at 0
                tensor.uniform_(0.2, 0.6, generator=generator)
    norms = [layer for layer in module.modules() if isinstance(layer, _NORMS)]
    module.eval()
    if norms:
        for layer in norms:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over the passes alone
            layer.train()
        for noise in images or (_noise(batch, channels, size, generator) for size in sizes):
            module(noise)
        for layer in norms:
            layer.momentum = 0.1
            layer.running_var.clamp_(min=_LEAST_VARIANCE * float(layer.running_var.mean()))
    return module.eval()


def _noise(batch: int, channels: int, size: int, generator: torch.Generator) -> torch.Tensor:
    images = torch.randn(batch, channels, size, size, generator=generator)
    return images + torch.randn(batch, channels, 1, 1, generator=generator)
