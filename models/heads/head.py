"""What a head is given and what it gives back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Literal

from torch import nn

from anysize.errors import UsageError
from anysize.models.backbones import ClassifierShape
from anysize.sizes import Size

__all__ = ["HeadOptions", "HeadParts", "HeadRequest"]


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """Choices within a head; each head reads its own.

    Attributes:
        levels: `spp`: bins along each axis, one level after the other.
        bins: `spp`: `adaptive` always gives n bins; `paper` is the window ⌈a/n⌉ and stride
            ⌊a/n⌋ of He et al., which refuses maps where that is not n×n.
        pooling: `adaptive`: how a bin is reduced to one number.
        roi: `roi`: `align` is RoIAlign, `max` the RoI max pooling of Fast R-CNN, which fewer
            runtimes have.
        sampling_ratio: `roi` with `align`: samples in a bin along each axis; 0 takes as many as
            the bin has cells.
    """

    levels: tuple[int, ...] = (4, 2, 1)
    bins: Literal["adaptive", "paper"] = "adaptive"
    pooling: Literal["average", "max"] = "average"
    roi: Literal["align", "max"] = "align"
    sampling_ratio: int = 2

    def to_json(self) -> str | None:
        """Write what differs from the defaults; None where nothing does."""
        defaults = HeadOptions()
        chosen = {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            if getattr(self, entry.name) != getattr(defaults, entry.name)
        }
        return json.dumps(chosen, sort_keys=True) if chosen else None

    @staticmethod
    def from_json(text: str | None) -> HeadOptions:
        """Read what `to_json` wrote.

        Raises:
            UsageError: The text is something else. Values are judged by the head that is built.
        """
        if text is None:
            return HeadOptions()
        try:
            found = json.loads(text)
            if "levels" in found:
                found["levels"] = tuple(int(level) for level in found["levels"])
            options = HeadOptions(**found)
            if not isinstance(options.sampling_ratio, int):
                raise TypeError(text)  # noqa: TRY301
        except (ValueError, TypeError, RecursionError) as exc:
            raise UsageError(
                f"head options {text[:60]!r}: expected JSON such as "
                '{"bins": "paper", "levels": [4, 2, 1]}'
            ) from exc
        return options


@dataclass(frozen=True, slots=True)
class HeadRequest:
    """Everything that a head may depend on.

    Attributes:
        channels: Channels of the feature map.
        map_size: The feature map at the training size.
        stride: Pixels of the image between neighbouring cells of the map.
        training_size: The image size that the head is built for.
        classes: Number of classes.
        classifier: The network's own classifier.
        options: Choices within the head.
    """

    channels: int
    map_size: Size
    stride: int
    training_size: Size
    classes: int
    classifier: ClassifierShape
    options: HeadOptions = field(default_factory=HeadOptions)


@dataclass(frozen=True, slots=True)
class HeadParts:
    """The modules of a head, in the order in which they run.

    Only `layers` may hold parameters: it is registered under the network's own name
    (`classifier`, `fc`), so the other parts leave no trace in the state dict.

    Attributes:
        prepare: Applied to the image before the backbone.
        pool: Applied to the feature map, and to the regions where the head takes them.
        layers: The trained layers.
        finish: Turns the last layer's output into the outputs.
    """

    layers: nn.Module
    pool: nn.Module = field(default_factory=nn.Identity)
    finish: nn.Module = field(default_factory=nn.Identity)
    prepare: nn.Module = field(default_factory=nn.Identity)
