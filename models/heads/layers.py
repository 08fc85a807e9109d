"""The classifier layers, spelled as linear layers or as the convolutions that equal them.

Both spellings give the same state-dict keys, and weights with the same bytes: `(O, C·h·w)` and
`(O, C, h, w)`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import nn

from anysize.models.backbones import ClassifierShape
from anysize.sizes import Size

__all__ = ["convolution_layers", "linear_layers", "single_linear"]

_DROPOUT = 0.5


def single_linear(shape: ClassifierShape) -> ClassifierShape:
    """Return a classifier of one linear layer, under the same name as `shape`.

    It keeps an index (`classifier.0.weight`) where the network's own layers have one.
    """
    return ClassifierShape(shape.name, ("linear",) if shape.order else ())


def linear_layers(shape: ClassifierShape, features: int, classes: int) -> nn.Module:
    """Build the layers as linear ones: `(batch, features)` to `(batch, classes)`."""
    if not shape.order:
        return nn.Linear(features, classes)
    units = _units(shape, features, classes)
    return nn.Sequential(
        *(nn.Linear(*next(units)) if kind == "linear" else _plain(kind) for kind in shape.order)
    )


def convolution_layers(
    shape: ClassifierShape, channels: int, classes: int, *, kernel: Size
) -> nn.Module:
    """Build the layers as convolutions: `kernel` first, then 1×1.

    Maps `(batch, channels, height, width)` to `(batch, classes, height − kernel.height + 1,
    width − kernel.width + 1)`.
    """
    first = (kernel.height, kernel.width)
    if not shape.order:
        return nn.Conv2d(channels, classes, first)
    layers: list[nn.Module] = []
    units = _units(shape, channels, classes)
    window = first
    for kind in shape.order:
        if kind == "linear":
            layers.append(nn.Conv2d(*next(units), window))
            window = (1, 1)
        else:
            layers.append(_plain(kind))
    return nn.Sequential(*layers)


def _units(shape: ClassifierShape, features: int, classes: int) -> Iterator[tuple[int, int]]:
    sides = (features, *shape.hidden, classes)
    return itertools.pairwise(sides)


def _plain(kind: str) -> nn.Module:
    return nn.ReLU(inplace=True) if kind == "relu" else nn.Dropout(_DROPOUT)
