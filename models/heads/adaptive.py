"""The adaptive head: pool the map back to its trained size, then the unchanged FC layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor, nn

from anysize.errors import UsageError
from anysize.models.heads.head import HeadParts, HeadRequest
from anysize.models.heads.layers import linear_layers
from anysize.sizes import Size

__all__ = ["AdaptiveAveragePool", "AdaptiveMaxPool", "adaptive"]


class AdaptiveAveragePool(nn.Module):
    """Average pooling to a fixed map; bin i of n over a cells spans ⌊i·a/n⌋ to ⌈(i+1)·a/n⌉."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = (size.height, size.width)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Reduce `(batch, channels, a, b)` to `(batch, channels · height · width)`."""
        return torch.flatten(F.adaptive_avg_pool2d(feature_map, self.size), 1)

    def extra_repr(self) -> str:
        """Show the pooled size in the module's print."""
        return f"size={self.size}"


class AdaptiveMaxPool(AdaptiveAveragePool):
    """Max pooling to a fixed map, over the same bins."""

    def forward(self, feature_map: Tensor) -> Tensor:
        """Reduce `(batch, channels, a, b)` to `(batch, channels · height · width)`."""
        return torch.flatten(F.adaptive_max_pool2d(feature_map, self.size), 1)


def adaptive(request: HeadRequest) -> HeadParts:
    """Build the FC layers behind adaptive pooling to the trained map; an fc checkpoint fits.

    Raises:
        UsageError: The pooling is neither `average` nor `max`.
    """
    pooling = request.options.pooling
    if pooling not in {"average", "max"}:
        raise UsageError(f"adaptive pooling {pooling!r}: expected 'average' or 'max'")
    pool = AdaptiveAveragePool if pooling == "average" else AdaptiveMaxPool
    features = request.channels * request.map_size.area
    return HeadParts(
        pool=pool(request.map_size),
        layers=linear_layers(request.classifier, features, request.classes),
    )
