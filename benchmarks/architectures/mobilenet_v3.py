"""MobileNetV3-Small.

Howard et al., "Searching for MobileNetV3", ICCV 2019 (arXiv 1905.02244).
"""

from __future__ import annotations

import torch
from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["MobileNetV3", "SqueezeExcite", "mobilenet_v3_small"]

# Kernel, expanded channels, channels, squeeze-excite, hard-swish, stride: table 2 of the paper.
_TABLE = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the mean of all."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.ReLU()
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return self.gate(scale) * x


def _conv(
    channels: int,
    out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.Hardswish,
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out, eps=1e-3),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))


class Bottleneck(nn.Module):
    """An inverted residual with an optional gate."""

    def __init__(self, channels: int, row: tuple[int, int, int, bool, bool, int]) -> None:
        super().__init__()
        kernel, hidden, out, gated, swish, stride = row
        activation = nn.Hardswish if swish else nn.ReLU
        self.residual = stride == 1 and channels == out
        layers: list[nn.Module] = []
        if hidden != channels:
            layers.append(_conv(channels, hidden, 1, activation=activation))
        layers.append(_conv(hidden, hidden, kernel, stride, hidden, activation))
        if gated:
            layers.append(SqueezeExcite(hidden, max(8, (hidden // 4 + 4) // 8 * 8)))
        layers.append(_conv(hidden, out, 1, activation=None))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.block(x)
        if self.residual:
            branch += x
        return branch


class MobileNetV3(nn.Module):
    """Eleven bottlenecks, and a hidden layer behind the average."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 16, 3, 2)]
        channels = 16
        for row in _TABLE:
            layers.append(Bottleneck(channels, row))
            channels = row[2]
        self.features = nn.Sequential(*layers, _conv(channels, 576, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(576, 1024), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1024, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


def mobilenet_v3_small(classes: int = 1000) -> MobileNetV3:
    return seeded(MobileNetV3(classes))
