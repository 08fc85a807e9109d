"""ShuffleNet V2 1.0×.

Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
Design", ECCV 2018 (arXiv 1807.11164). Channels are shuffled by view, transpose and view.
"""

from __future__ import annotations

import torch
from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["ShuffleNetV2", "channel_shuffle", "shufflenet_v2"]


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(batch, channels, height, width)


def _pointwise(channels: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


class Unit(nn.Module):
    """Half of the channels pass by, or both halves are reduced."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        half = out // 2
        self.halves = stride == 1
        self.branch1 = (
            nn.Identity()
            if self.halves
            else nn.Sequential(*_depthwise(channels, stride), *_pointwise(channels, half))
        )
        self.branch2 = nn.Sequential(
            *_pointwise(half if self.halves else channels, half),
            *_depthwise(half, stride),
            *_pointwise(half, half),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.halves:
            kept, x = x.chunk(2, dim=1)
            joined = torch.cat((kept, self.branch2(x)), dim=1)
        else:
            joined = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(joined, 2)


class ShuffleNetV2(nn.Module):
    """Three stages of 4, 8 and 4 units."""

    def __init__(self, classes: int = 1000, longest: int = 8) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True)]
        self.conv1 = nn.Sequential(*stem)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        units: list[nn.Module] = []
        channels = 24
        for repeats, out in ((4, 116), (8, 232), (4, 464)):
            for index in range(min(repeats, longest)):
                units.append(Unit(channels, out, 1 if index else 2))
                channels = out
        self.stages = nn.Sequential(*units)
        self.conv5 = nn.Sequential(*_pointwise(channels, 1024))
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.stages(x))
        x = x.mean([2, 3])
        return self.fc(x)


def shufflenet_v2(classes: int = 1000, longest: int = 8) -> ShuffleNetV2:
    return seeded(ShuffleNetV2(classes, longest))
