"""DenseNet-121.

Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", CVPR 2017
(arXiv 1608.06993).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["DenseNet", "densenet121"]


class DenseLayer(nn.Module):
    """BN → ReLU → 1×1 → BN → ReLU → 3×3 over everything that came before."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = torch.cat(features, 1)
        x = self.conv1(F.relu(self.norm1(x)))
        return self.conv2(F.relu(self.norm2(x)))


class DenseBlock(nn.ModuleList):
    """Layers that each see the concatenation of all before them."""

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self:
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """Blocks of `layers` dense layers, halved by a transition between them."""

    def __init__(self, layers: tuple[int, ...], growth: int = 32, classes: int = 1000) -> None:
        super().__init__()
        channels = 2 * growth
        parts: list[nn.Module] = [
            nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        for index, count in enumerate(layers):
            block = [DenseLayer(channels + i * growth, growth) for i in range(count)]
            parts.append(DenseBlock(block))
            channels += count * growth
            if index < len(layers) - 1:
                parts += [
                    nn.BatchNorm2d(channels),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(channels, channels // 2, 1, bias=False),
                    nn.AvgPool2d(2, 2),
                ]
                channels //= 2
        self.features = nn.Sequential(*parts, nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.features(x))
        x = F.adaptive_avg_pool2d(x, (1, 1))
        return self.classifier(torch.flatten(x, 1))


def densenet121(classes: int = 1000, growth: int = 32, longest: int = 24) -> DenseNet:
    layers = tuple(min(count, longest) for count in (6, 12, 24, 16))
    return seeded(DenseNet(layers, growth, classes))
