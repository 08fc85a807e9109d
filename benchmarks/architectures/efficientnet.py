"""EfficientNet-B0.

Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019
(arXiv 1905.11946).
"""

from __future__ import annotations

from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["EfficientNet", "efficientnet_b0"]

# Expansion, channels, repeats, stride, kernel: table 1 of the paper.
_TABLE = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.SiLU(inplace=True),
    )


class Gate(nn.Module):
    """Squeeze and excitation, by the mean over height and width."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = x.mean((2, 3), keepdim=True)
        scale = self.expand(nn.functional.silu(self.reduce(scale)))
        return x * scale.sigmoid()


class MBConv(nn.Module):
    """An inverted residual with a gate."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.residual = stride == 1 and channels == out
        layers: list[nn.Module] = [] if expansion == 1 else [_conv(channels, hidden, 1)]
        layers += [
            _conv(hidden, hidden, kernel, stride, hidden),
            Gate(hidden, max(1, channels // 4)),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        ]
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.residual else self.block(x)


class EfficientNet(nn.Module):
    """Sixteen gated inverted residuals."""

    def __init__(self, classes: int = 1000, longest: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3, 2)]
        channels = 32
        for expansion, out, repeats, stride, kernel in _TABLE:
            for index in range(min(repeats, longest)):
                layers.append(MBConv(channels, out, expansion, 1 if index else stride, kernel))
                channels = out
        self.features = nn.Sequential(*layers, _conv(channels, 1280, 1))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def efficientnet_b0(classes: int = 1000, longest: int = 4) -> EfficientNet:
    # The small images are for 1×1 to vary, too.
    return seeded(EfficientNet(classes, longest), sizes=(64, 8), batch=16, seed=1)
