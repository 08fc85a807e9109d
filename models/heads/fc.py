"""The fc head: Flatten → Linear → …, for the one feature map that it was built for."""

from __future__ import annotations

from torch import nn

from anysize.models.heads.head import HeadParts, HeadRequest
from anysize.models.heads.layers import linear_layers

__all__ = ["fc"]


def fc(request: HeadRequest) -> HeadParts:
    """Build the FC layers behind a Flatten, without adaptive pooling in between.

    It takes exactly the image sizes whose feature map is `request.map_size`; on any other the
    first linear layer raises a RuntimeError. The flatten order is (channel, row, column).
    """
    features = request.channels * request.map_size.area
    return HeadParts(
        pool=nn.Flatten(1),
        layers=linear_layers(request.classifier, features, request.classes),
    )
