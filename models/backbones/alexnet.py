"""AlexNet, the one-tower form of Krizhevsky, "One weird trick", 2014 (arXiv 1404.5997).

State-dict keys and shapes are torchvision's.
"""

from __future__ import annotations

from torch import nn

from anysize.models.backbones.backbone import Backbone, ClassifierShape

__all__ = ["alexnet"]


def alexnet() -> Backbone:
    """Build AlexNet: a 3×224×224 image gives a 256×6×6 map."""
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
    )
    order = ("dropout", "linear", "relu", "dropout", "linear", "relu", "linear")
    return Backbone({"features": features}, ClassifierShape("classifier", order, (4096, 4096)))
