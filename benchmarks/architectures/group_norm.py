"""A residual network whose every normalisation, the head's too, is over groups of channels.

Wu, He, "Group Normalization", ECCV 2018 (arXiv 1803.08494).
"""

from __future__ import annotations

from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["GroupNormNet", "group_norm_net"]


class Block(nn.Module):
    """Two 3×3 convolutions, each normalised, beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(8, out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, out)
        self.shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm1(self.conv1(x)).relu()
        branch = self.norm2(self.conv2(branch))
        return (branch + self.shortcut(x)).relu()


class GroupNormNet(nn.Module):
    """Four blocks; the pooled features are normalised in groups before the linear layer."""

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1)
        self.blocks = nn.Sequential(
            *(Block(width * 2**i, width * 2 ** (i + 1), 2) for i in range(4))
        )
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.norm = nn.GroupNorm(4, 16 * width)
        self.fc = nn.Linear(16 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(x)))
        x = self.norm(x).squeeze(3).squeeze(2)
        return self.fc(x)


def group_norm_net(classes: int = 10, width: int = 16) -> GroupNormNet:
    return seeded(GroupNormNet(classes, width))
