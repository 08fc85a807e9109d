"""The fcn head: the FC layers as convolutions, k×k and then 1×1.

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015.
"""

from __future__ import annotations

from anysize.models.heads.head import HeadParts, HeadRequest
from anysize.models.heads.layers import convolution_layers

__all__ = ["fcn"]


def fcn(request: HeadRequest) -> HeadParts:
    """Build the FC layers as convolutions.

    The output is `map`, `(batch, classes, map_height, map_width)`: cell (i, j) is the FC
    layers' answer on the window of the feature map that starts at (i, j). At the training size
    it is 1×1 and equal to the fc head.
    """
    return HeadParts(
        layers=convolution_layers(
            request.classifier, request.channels, request.classes, kernel=request.map_size
        ),
    )
