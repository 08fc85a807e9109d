"""LeNet-5-like: two 5×5 convolutions with pooling, three FC layers.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998,
with ReLU and max pooling in the place of tanh and trainable subsampling.
"""

from __future__ import annotations

from torch import nn

from anysize.models.backbones.backbone import Backbone, ClassifierShape

__all__ = ["lenet"]


def lenet() -> Backbone:
    """Build LeNet: a 1×32×32 image gives a 16×5×5 map."""
    features = nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, 2),
    )
    order = ("linear", "relu", "linear", "relu", "linear")
    return Backbone({"features": features}, ClassifierShape("classifier", order, (120, 84)))
