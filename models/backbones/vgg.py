"""VGG with 11, 13, 16 and 19 layers, with and without batch normalisation.

Simonyan, Zisserman, "Very Deep Convolutional Networks", ICLR 2015 (arXiv 1409.1556),
configurations A, B, D and E. State-dict keys and shapes are torchvision's.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from anysize.models.backbones.backbone import Backbone, ClassifierShape

__all__ = ["vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]

# 3×3 convolutions in each of the five stages; every stage ends in a 2×2 max pooling.
_CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
_CHANNELS = (64, 128, 256, 512, 512)


def _vgg(depth: int, *, batch_norm: bool = False) -> Backbone:
    """Build VGG with that many layers: a 3×224×224 image gives a 512×7×7 map."""
    layers: list[nn.Module] = []
    channels = 3
    for count, width in zip(_CONVOLUTIONS[depth], _CHANNELS, strict=True):
        for _ in range(count):
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    order = ("linear", "relu", "dropout", "linear", "relu", "dropout", "linear")
    classifier = ClassifierShape("classifier", order, (4096, 4096))
    return Backbone({"features": nn.Sequential(*layers)}, classifier)


vgg11, vgg11_bn = partial(_vgg, 11), partial(_vgg, 11, batch_norm=True)
vgg13, vgg13_bn = partial(_vgg, 13), partial(_vgg, 13, batch_norm=True)
vgg16, vgg16_bn = partial(_vgg, 16), partial(_vgg, 16, batch_norm=True)
vgg19, vgg19_bn = partial(_vgg, 19), partial(_vgg, 19, batch_norm=True)
