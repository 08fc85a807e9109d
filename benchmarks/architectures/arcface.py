"""A face embedder: ResNet-18 without global pooling, for aligned faces of 112×112.

Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition",
CVPR 2019 (arXiv 1801.07698), option E: BN → Dropout → FC → BN behind the last map.
"""

from __future__ import annotations

import torch
from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["ArcFace", "arcface"]


class Unit(nn.Module):
    """BN → 3×3 → BN → PReLU → 3×3 → BN beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.PReLU(out),
            nn.Conv2d(out, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == out
            else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class ArcFace(nn.Module):
    """Eight units, then an embedding of `features` numbers."""

    def __init__(self, features: int = 512, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
        ]
        channels = width
        for multiple in (1, 2, 4, 8):
            layers += [Unit(channels, multiple * width, 2)]
            channels = multiple * width
            layers += [Unit(channels, channels, 1)]
        self.body = nn.Sequential(*layers)
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(channels * 49, features)
        self.features = nn.BatchNorm1d(features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.bn2(self.body(x)))
        return self.features(self.fc(torch.flatten(x, 1)))


def arcface(classes: int = 512, width: int = 64) -> ArcFace:
    return seeded(ArcFace(classes, width), sizes=(112,))
