"""Seeded weights that keep the signal alive, so that outputs clearly vary with the input.

Parity on outputs that vanish, or that hardly depend on the image, proves nothing. Therefore:
Kaiming initialisation for linear layers too, biases that are not zero (a dropped bias shows),
and batch normalisation with running statistics that are not 0 and 1.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn

__all__ = ["fill_seeded"]

_BIAS_STD = 0.1


@torch.no_grad()
def fill_seeded(module: nn.Module, seed: int) -> None:
    """Fill every parameter and buffer of `module` in place.

    Each tensor draws from a generator of its own, seeded with `seed` and the tensor's name in
    the state dict, and in memory order. Heads whose weights are the same bytes under the same
    names (fc, fcn, adaptive, resize; gap and cam) therefore start equal, as do the backbones of
    all heads.

    Args:
        module: On the CPU, allocated, contents ignored.
        seed: Any whole number; equal seeds give equal weights.

    Raises:
        TypeError: A layer with parameters is of a kind that has no rule here.
    """
    for path, layer in module.named_modules():
        tensors = {
            **dict(layer.named_parameters(recurse=False)),
            **dict(layer.named_buffers(recurse=False)),
        }
        for name, tensor in tensors.items():
            generator = _generator(seed, f"{path}.{name}")
            if isinstance(layer, nn.BatchNorm2d):
                _fill_batch_norm(layer, name, tensor, generator)
            elif not isinstance(layer, nn.Conv2d | nn.Linear):
                raise TypeError(f"no initialisation for {type(layer).__name__} at {path!r}")
            elif name == "bias":
                tensor.normal_(0.0, _BIAS_STD, generator=generator)
            else:
                fan_in = tensor[0].numel()
                # A uniform draw costs a third of a normal one; VGG has 138 million of them.
                bound = math.sqrt(3 * 2 / fan_in)
                tensor.uniform_(-bound, bound, generator=generator)


def _fill_batch_norm(
    layer: nn.BatchNorm2d, name: str, tensor: Tensor, generator: torch.Generator
) -> None:
    gain = float(getattr(layer, "initial_gain", 1.0))
    if name == "num_batches_tracked":
        tensor.fill_(1)
    elif name == "weight":
        tensor.uniform_(0.8 * gain, 1.2 * gain, generator=generator)
    elif name == "running_var":
        tensor.uniform_(0.5, 1.5, generator=generator)
    else:
        tensor.normal_(0.0, _BIAS_STD, generator=generator)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
