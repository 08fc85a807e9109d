"""GoogLeNet (Inception v1), with local response normalisation or with batch normalisation.

Szegedy et al., "Going Deeper with Convolutions", CVPR 2015 (arXiv 1409.4842), without the
auxiliary classifiers; Ioffe, Szegedy, "Batch Normalization", ICML 2015 (arXiv 1502.03167). Max
pooling rounds up, as Caffe's does.
"""

from __future__ import annotations

import torch
from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["GoogLeNet", "googlenet", "googlenet_bn"]

# Channels of 1×1, of 3×3 and its reduction, of 5×5 and its reduction, and behind the pooling.
_TABLE = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def _conv(channels: int, out: int, kernel: int, norm: bool, stride: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=not norm)
    ]
    if norm:
        layers.append(nn.BatchNorm2d(out, eps=1e-3))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, channels: int, row: tuple[int, ...], norm: bool) -> None:
        super().__init__()
        one, three_in, three, five_in, five, pooled = row
        self.branch1 = _conv(channels, one, 1, norm)
        self.branch2 = nn.Sequential(
            _conv(channels, three_in, 1, norm), _conv(three_in, three, 3, norm)
        )
        self.branch3 = nn.Sequential(
            _conv(channels, five_in, 1, norm), _conv(five_in, five, 5, norm)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), _conv(channels, pooled, 1, norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(branches, 1)


class GoogLeNet(nn.Module):
    """Nine inception modules between two stems of convolutions and the average."""

    def __init__(self, classes: int = 1000, norm: bool = False) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 7, norm, stride=2)
        self.conv2 = _conv(64, 64, 1, norm)
        self.conv3 = _conv(64, 192, 3, norm)
        self.lrn1 = nn.Identity() if norm else nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)
        self.lrn2 = nn.Identity() if norm else nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        modules, channels = [], 192
        for row in _TABLE:
            modules.append(Inception(channels, row, norm))
            channels = row[0] + row[2] + row[4] + row[5]
        self.inception = nn.ModuleList(modules)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lrn1(self.pool(self.conv1(x)))
        x = self.pool(self.lrn2(self.conv3(self.conv2(x))))
        for index, module in enumerate(self.inception):
            if index in (2, 7):
                x = self.pool(x)
            x = module(x)
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(self.dropout(x))


def googlenet(classes: int = 1000) -> GoogLeNet:
    return seeded(GoogLeNet(classes))


def googlenet_bn(classes: int = 1000) -> GoogLeNet:
    return seeded(GoogLeNet(classes, norm=True))
