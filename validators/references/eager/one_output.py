"""One output of a module with several, as a module of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["OneOutput"]


class OneOutput(nn.Module):
    """Runs a module and hands out one of its outputs.

    Args:
        module: In evaluation mode; returns a sequence or a dict of tensors. Only run.
        place: Which one.
    """

    def __init__(self, module: nn.Module, place: int) -> None:
        super().__init__()
        self.module = module
        self.place = place
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """Return output number `place` for images `(batch, channels, height, width)`."""
        answer = self.module(images)
        values: Sequence[Tensor]
        if isinstance(answer, Mapping):
            values = list(answer.values())
        else:
            values = [answer] if isinstance(answer, torch.Tensor) else answer
        return values[self.place]
