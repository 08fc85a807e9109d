"""The classifier layers, spelled as linear layers or as the convolutions that equal them.

Both spellings give the same state-dict keys, and weights with the same bytes: `(O, C·h·w)` and
`(O, C, h, w)`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

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
    return _layers(shape, (features, *shape.hidden, classes), nn.Linear)


def convolution_layers(
    shape: ClassifierShape, channels: int, classes: int, *, kernel: Size
) -> nn.Module:
    """Build the layers as convolutions: `kernel` first, then 1×1.

    Maps `(batch, channels, height, width)` to `(batch, classes, height − kernel.height + 1,
    width − kernel.width + 1)`.
    """
    windows = itertools.chain([(kernel.height, kernel.width)], itertools.repeat((1, 1)))
    return _layers(
        shape,
        (channels, *shape.hidden, classes),
        lambda before, after: nn.Conv2d(before, after, next(windows)),
    )


def _layers(
    shape: ClassifierShape, units: Sequence[int], make: Callable[[int, int], nn.Module]
) -> nn.Module:
    pairs = itertools.pairwise(units)
    if not shape.order:
        return make(*next(pairs))
    return nn.Sequential(
        *(make(*next(pairs)) if kind == "linear" else _plain(kind) for kind in shape.order)
    )


def _plain(kind: str) -> nn.Module:
    return nn.ReLU(inplace=True) if kind == "relu" else nn.Dropout(_DROPOUT)
