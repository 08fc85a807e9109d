"""What a network file hands over: the trunk of layers, and the shape of the classifier behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

__all__ = ["Backbone", "ClassifierShape"]


@dataclass(frozen=True, slots=True)
class ClassifierShape:
    """The network's own layers between the feature map and the classes.

    Attributes:
        name: Name of the layers among the module's children, as in the state dict:
            `classifier` or `fc`.
        order: The layers in the order of their indices, from `linear`, `relu` and `dropout`,
            so that state-dict keys come out as the network's authors numbered them. Empty for a
            single layer without an index (`fc.weight`).
        hidden: Units of each linear layer but the last.
        class_maps: The classifier is a 1×1 convolution to one map per class *before* the
            pooling (Network in Network), not a linear layer after it.
    """

    name: str
    order: tuple[str, ...] = ()
    hidden: tuple[int, ...] = ()
    class_maps: bool = False


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network without its head.

    Attributes:
        trunk: Children by name, applied one after the other to `(batch, channels, height,
            width)`; the names are those of the state dict.
        classifier: The shape of the network's own classifier.
    """

    trunk: Mapping[str, nn.Module]
    classifier: ClassifierShape
