"""VGG-11 with adaptive pooling to 7×7, and VGG-13 for 64×64 grey images of faces.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (arXiv
1409.1556); Barsoum, Zhang, Ferrer, Zhang, "Training Deep Networks for Facial Expression
Recognition with Crowd-Sourced Label Distribution" (arXiv 1608.01041).
"""

from __future__ import annotations

from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["VGG", "Ferplus", "ferplus", "vgg11"]


class VGG(nn.Module):
    """Configuration A; `width` 64 is the paper's."""

    def __init__(self, classes: int = 1000, width: int = 64, hidden: int = 4096) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in ((1,), (2,), (4, 4), (8, 8), (8, 8)):
            for multiple in stage:
                layers += [nn.Conv2d(channels, multiple * width, 3, padding=1), nn.ReLU(True)]
                channels = multiple * width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, hidden),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.avgpool(x)
        x = x.view(x.size(0), -1)
        return self.classifier(x)


class Ferplus(nn.Module):
    """Thirteen layers over a grey image of 64×64, flattened as it is: 256×4×4."""

    def __init__(self, classes: int = 8, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for repeats, multiple in ((2, 1), (2, 2), (3, 4), (3, 4)):
            for _ in range(repeats):
                layers += [nn.Conv2d(channels, multiple * width, 3, padding=1), nn.ReLU()]
                channels = multiple * width
            layers += [nn.MaxPool2d(2, 2), nn.Dropout(0.25)]
        self.features = nn.Sequential(*layers)
        self.fc1 = nn.Linear(channels * 16, 1024)
        self.fc2 = nn.Linear(1024, 1024)
        self.fc3 = nn.Linear(1024, classes)
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = x.reshape(x.shape[0], -1)
        x = self.dropout(self.fc1(x).relu())
        x = self.dropout(self.fc2(x).relu())
        return self.fc3(x)


def vgg11(classes: int = 1000, width: int = 64, hidden: int = 4096) -> VGG:
    return seeded(VGG(classes, width, hidden))


def ferplus(classes: int = 8, width: int = 64) -> Ferplus:
    return seeded(Ferplus(classes, width), channels=1)
