"""Network in Network: convolutions followed by 1×1 convolutions, no FC layer at all.

Lin, Chen, Yan, "Network In Network", ICLR 2014 (arXiv 1312.4400), in its ImageNet form. The
class layer has no ReLU, so that a class may score below zero.
"""

from __future__ import annotations

from torch import nn

from anysize.models.backbones.backbone import Backbone, ClassifierShape

__all__ = ["nin"]


def _mlpconv(channels: int, width: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, kernel, stride=stride, padding=padding),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1),
        nn.ReLU(inplace=True),
    ]


def nin() -> Backbone:
    """Build Network in Network: a 3×224×224 image gives a 1024×5×5 map."""
    features = nn.Sequential(
        *_mlpconv(3, 96, 11, 4, 0),
        nn.MaxPool2d(3, 2),
        *_mlpconv(96, 256, 5, 1, 2),
        nn.MaxPool2d(3, 2),
        *_mlpconv(256, 384, 3, 1, 1),
        nn.MaxPool2d(3, 2),
        nn.Dropout(0.5),
        nn.Conv2d(384, 1024, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(1024, 1024, 1),
        nn.ReLU(inplace=True),
    )
    return Backbone({"features": features}, ClassifierShape("classifier", class_maps=True))
