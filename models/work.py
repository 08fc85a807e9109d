"""What a module costs, counted by torch itself and without computing anything."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from anysize.models.source import ResolvedModel

__all__ = ["layer_count", "multiply_adds"]


def multiply_adds(model: ResolvedModel) -> int:
    """Count the multiply-adds for one image of the training size, on tensors without values.

    Args:
        model: Its module has no weights afterwards.

    Raises:
        Exception: Whatever a module raises whose layers depend on values, or that takes more than
            an image.
    """
    size = model.training_size
    image = torch.zeros(1, model.channels or 3, size.height, size.width, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.module.to("meta")(image)
    return int(counter.get_total_flops()) // 2


def layer_count(module: nn.Module) -> int:
    """Count the modules that hold no others."""
    return sum(not list(one.children()) for one in module.modules())
