"""ResNet with 18, 34 and 50 layers.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv
1512.03385); ResNet-50 takes its stride in the 3×3 convolution. State-dict keys and shapes are
torchvision's.
"""

from __future__ import annotations

from functools import partial
from typing import cast

from torch import Tensor, nn

from anysize.models.backbones.backbone import Backbone, ClassifierShape

__all__ = ["BasicBlock", "Bottleneck", "ResidualNorm", "resnet18", "resnet34", "resnet50"]


class ResidualNorm(nn.BatchNorm2d):
    """The last batch normalisation of a residual branch.

    Seeded weights start it small: with a branch as strong as the shortcut the signal would
    double its variance in every block.
    """

    initial_gain = 0.4


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = ResidualNorm(width)
        self.downsample = _shortcut(channels, width * self.expansion, stride)

    def forward(self, images: Tensor) -> Tensor:
        """Map `(batch, channels, height, width)` to `(batch, width, …)`."""
        branch = self.relu(self.bn1(self.conv1(images)))
        branch = self.bn2(self.conv2(branch))
        shortcut = images if self.downsample is None else self.downsample(images)
        return cast("Tensor", self.relu(branch + shortcut))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside a shortcut."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = ResidualNorm(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels, width * self.expansion, stride)

    def forward(self, images: Tensor) -> Tensor:
        """Map `(batch, channels, height, width)` to `(batch, 4·width, …)`."""
        branch = self.relu(self.bn1(self.conv1(images)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        shortcut = images if self.downsample is None else self.downsample(images)
        return cast("Tensor", self.relu(branch + shortcut))


def _shortcut(channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == out_channels:
        return None
    convolution = nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _resnet(block: type[BasicBlock | Bottleneck], counts: tuple[int, int, int, int]) -> Backbone:
    """Build a ResNet: a 3×224×224 image gives a map of 7×7, with 512 · expansion channels."""
    trunk: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(64),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }
    channels = 64
    for stage, count in enumerate(counts):
        width = 64 * 2**stage
        blocks: list[nn.Module] = []
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            blocks.append(block(channels, width, stride))
            channels = width * block.expansion
        trunk[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    return Backbone(trunk, ClassifierShape("fc"))


resnet18 = partial(_resnet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(_resnet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(_resnet, Bottleneck, (3, 4, 6, 3))
