"""The cam head: the gap head with its linear layer moved before the pooling, which is exact.

Linear(GAP(x)) = GAP(Conv1×1(x)); the maps before the average are the class activation maps of
Zhou, Khosla, Lapedriza, Oliva, Torralba, "Learning Deep Features for Discriminative
Localization", CVPR 2016, with the bias included.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor, nn

from anysize.models.heads.head import HeadParts, HeadRequest
from anysize.models.heads.layers import convolution_layers, single_linear
from anysize.sizes import Size

__all__ = ["MeanAndMap", "cam"]


class MeanAndMap(nn.Module):
    """The mean of each class map beside the map itself."""

    def forward(self, class_map: Tensor) -> tuple[Tensor, Tensor]:
        """Give `(batch, classes)` and `(batch, classes, map_height, map_width)`."""
        return torch.flatten(F.adaptive_avg_pool2d(class_map, 1), 1), class_map


def cam(request: HeadRequest) -> HeadParts:
    """Build the head for any size with outputs `logits` and `map`; a gap checkpoint fits it."""
    shape = single_linear(request.classifier)
    return HeadParts(
        layers=convolution_layers(shape, request.channels, request.classes, kernel=Size(1, 1)),
        finish=MeanAndMap(),
    )
