"""ConvNeXt-Tiny.

Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, "A ConvNet for the 2020s", CVPR 2022 (arXiv
2201.03545). Layer normalisation runs over channels, which are moved last for it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["ConvNeXt", "convnext_tiny"]


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Block(nn.Module):
    """A 7×7 depthwise convolution, then two linear layers in channels-last order."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.dwconv(x).permute(0, 2, 3, 1)
        branch = self.pwconv2(self.act(self.pwconv1(self.norm(branch))))
        return x + (self.gamma * branch).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """Four stages; layer normalisation stands between the pooling and the linear layer."""

    def __init__(
        self,
        classes: int = 1000,
        depths: tuple[int, ...] = (3, 3, 9, 3),
        widths: tuple[int, ...] = (96, 192, 384, 768),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0], eps=1e-6)]
        for index, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if index:
                before = widths[index - 1]
                layers += [ChannelNorm(before, eps=1e-6), nn.Conv2d(before, width, 2, 2)]
            layers += [Block(width) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.norm(x.mean([-2, -1]))
        return self.head(x)


def convnext_tiny(classes: int = 1000, width: int = 96, longest: int = 9) -> ConvNeXt:
    depths = tuple(min(depth, longest) for depth in (3, 3, 9, 3))
    return seeded(ConvNeXt(classes, depths, (width, 2 * width, 4 * width, 8 * width)))
