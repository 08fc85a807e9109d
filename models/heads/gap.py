"""The gap head: global average pooling → Linear, or 1×1 convolution → global average pooling.

Lin, Chen, Yan, "Network In Network", ICLR 2014.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor, nn

from anysize.models.heads.head import HeadParts, HeadRequest
from anysize.models.heads.layers import linear_layers, single_linear

__all__ = ["GlobalAveragePool", "gap"]


class GlobalAveragePool(nn.Module):
    """The mean over the whole map, whatever its size."""

    def forward(self, feature_map: Tensor) -> Tensor:
        """Reduce `(batch, channels, map_height, map_width)` to `(batch, channels)`."""
        return torch.flatten(F.adaptive_avg_pool2d(feature_map, 1), 1)


def gap(request: HeadRequest) -> HeadParts:
    """Build the head for any size: average the map, then one linear layer.

    Where the network's classifier is a 1×1 convolution to class maps, that comes first and the
    average after it.
    """
    if request.classifier.class_maps:
        layers = nn.Conv2d(request.channels, request.classes, 1)
        return HeadParts(layers=layers, finish=GlobalAveragePool())
    shape = single_linear(request.classifier)
    return HeadParts(
        pool=GlobalAveragePool(), layers=linear_layers(shape, request.channels, request.classes)
    )
