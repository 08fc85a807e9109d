"""Two classifiers, of age and of gender, on one flattened map.

Levi, Hassner, "Age and Gender Classification Using Convolutional Neural Networks", CVPR Workshops
2015: three convolutions with local response normalisation over an image of 227×227.
"""

from __future__ import annotations

from architectures.seeded import seeded
from torch import Tensor, nn

__all__ = ["AgeGender", "age_gender"]


def _head(features: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, classes),
    )


class AgeGender(nn.Module):
    """Returns (age, gender): logits of eight groups and of two."""

    output_names = ("age", "gender")

    def __init__(self, width: int = 96, hidden: int = 512) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=4),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.LocalResponseNorm(5),
            nn.Conv2d(width, 256, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.LocalResponseNorm(5),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.flatten = nn.Flatten()
        self.age = _head(384 * 36, hidden, 8)
        self.gender = _head(384 * 36, hidden, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.flatten(self.features(x))
        return self.age(x), self.gender(x)


def age_gender(width: int = 96) -> AgeGender:
    return seeded(AgeGender(width))
