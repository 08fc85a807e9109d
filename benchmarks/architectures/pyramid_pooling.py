"""Two pyramids: maxima that are concatenated, and averages that are spread over the map again.

He, Zhang, Ren, Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks", ECCV 2014 (arXiv
1406.4729), levels 6, 3, 2, 1; Zhao, Shi, Qi, Wang, Jia, "Pyramid Scene Parsing Network", CVPR
2017 (arXiv 1612.01105), levels 1, 2, 3, 6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["PyramidScene", "SppNet", "pyramid_scene", "spp_net"]


def _trunk(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        nn.ReLU(),
    )


class SppNet(nn.Module):
    """A classifier over 50 maxima of each channel."""

    def __init__(
        self, classes: int = 10, width: int = 16, levels: tuple[int, ...] = (6, 3, 2, 1)
    ) -> None:
        super().__init__()
        self.features = _trunk(width)
        self.pools = nn.ModuleList(nn.AdaptiveMaxPool2d(level) for level in levels)
        self.fc = nn.Linear(2 * width * sum(level * level for level in levels), classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        pooled = [pool(x).view(x.size(0), -1) for pool in self.pools]
        return self.fc(torch.cat(pooled, 1))


class PyramidScene(nn.Module):
    """A dense classifier that joins every cell with averages of its surroundings."""

    output_names = ("map",)

    def __init__(
        self, classes: int = 5, width: int = 16, levels: tuple[int, ...] = (1, 2, 3, 6)
    ) -> None:
        super().__init__()
        channels = 2 * width
        self.features = _trunk(width)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(level),
                nn.Conv2d(channels, channels // len(levels), 1, bias=False),
                nn.BatchNorm2d(channels // len(levels)),
                nn.ReLU(),
            )
            for level in levels
        )
        self.classifier = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        spread = [
            F.interpolate(stage(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
            for stage in self.stages
        ]
        return self.classifier(torch.cat([x, *spread], 1))


def spp_net(classes: int = 10, width: int = 16) -> SppNet:
    return seeded(SppNet(classes, width))


def pyramid_scene(classes: int = 5, width: int = 16) -> PyramidScene:
    return seeded(PyramidScene(classes, width))
