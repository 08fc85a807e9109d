"""RegNetY-400MF.

Radosavovic, Kosaraju, Girshick, He, Dollár, "Designing Network Design Spaces", CVPR 2020 (arXiv
2003.13678).
"""

from __future__ import annotations

from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["RegNet", "regnet_y_400mf"]


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    )


class YBlock(nn.Module):
    """A bottleneck with a grouped 3×3 convolution and a gate."""

    def __init__(self, channels: int, out: int, stride: int, group_width: int) -> None:
        super().__init__()
        squeezed = max(1, channels // 4)
        self.a = _conv(channels, out, 1)
        self.b = _conv(out, out, 3, stride, out // group_width)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d((1, 1)),
            nn.Conv2d(out, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, out, 1),
            nn.Sigmoid(),
        )
        self.c = _conv(out, out, 1)
        self.shortcut = (
            nn.Identity() if stride == 1 and channels == out else _conv(channels, out, 1, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        branch = self.b(self.a(x).relu()).relu()
        branch = self.c(branch * self.gate(branch))
        return (self.shortcut(x) + branch).relu()


class RegNet(nn.Module):
    """Four stages of 1, 3, 6 and 6 blocks, groups of 8 channels."""

    def __init__(self, classes: int = 1000, longest: int = 6) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3, 2), nn.ReLU()]
        channels = 32
        for depth, width in ((1, 48), (3, 104), (6, 208), (6, 440)):
            for index in range(min(depth, longest)):
                layers.append(YBlock(channels, width, 1 if index else 2, 8))
                channels = width
        self.trunk = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.trunk(x))
        x = x.flatten(start_dim=1)
        return self.fc(x)


def regnet_y_400mf(classes: int = 1000, longest: int = 6) -> RegNet:
    return seeded(RegNet(classes, longest))
