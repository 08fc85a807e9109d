"""The healthy files, each with the module it was exported from and sizes to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from anysize.models import resolve
from anysize.models.seeded_weights import fill_seeded
from anysize.sizes import Size

__all__ = ["MASK", "TWINS", "Photo", "Twin"]

MASK = -1e9

# An illegal size first, then the smallest, the training size, and two that are not square.
_ANY = (Size(15, 16), Size(16, 16), Size(32, 32), Size(40, 29))
# The interval of an FC head, and where its map is twice as high.
_INTERVAL = (Size(32, 32), Size(35, 33), Size(36, 32), Size(52, 32))
_LARGE = (Size(32, 32), Size(36, 45))


class Photo(nn.Module):
    """An RGB classifier with what the networks of the zoo lack.

    Args:
        normalise: Put LRN and a pooling with `ceil_mode` between the convolutions.
        label: Return the class's number, too.
        mask: Return the scores before Softmax, the last class masked.
    """

    def __init__(self, *, normalise: bool = False, label: bool = False, mask: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.response = nn.LocalResponseNorm(5, alpha=1.0)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.linear = nn.Linear(12, 6)
        self.normalise, self.label, self.mask = normalise, label, mask
        fill_seeded(self, 3)
        self.register_buffer("masked", torch.tensor([0.0] * 5 + [MASK]))
        self.eval()

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        maps = functional.gelu(self.norm1(self.conv1(images)))
        if self.normalise:
            maps = self.response(self.pool(maps))
        maps = torch.relu(self.conv2(maps))
        scores = self.linear(maps.mean((2, 3)))
        if self.mask:
            return scores + self.masked
        scores = torch.softmax(scores, 1)
        return {"scores": scores, "label": scores.argmax(1)} if self.label else scores


def _zoo(name: str, head: str) -> Callable[[], nn.Module]:
    return lambda: resolve(name, head=head).module


@dataclass(frozen=True, slots=True)
class Twin:
    """A healthy file.

    Attributes:
        source: What `anysize.export` is given; None for the module itself.
        head: Of a network of the zoo.
        module: Builds the reference.
        sizes: To validate at.
    """

    source: str | None
    head: str | None
    module: Callable[[], nn.Module]
    sizes: tuple[Size, ...]


TWINS = {
    "lenet-fc": Twin("lenet", "fc", _zoo("lenet", "fc"), _INTERVAL),
    "lenet-gap": Twin("lenet", "gap", _zoo("lenet", "gap"), _ANY),
    "lenet-cam": Twin("lenet", "cam", _zoo("lenet", "cam"), _ANY[1:]),
    "lenet-spp": Twin("lenet", "spp", _zoo("lenet", "spp"), _LARGE),
    "lenet-adaptive": Twin("lenet", "adaptive", _zoo("lenet", "adaptive"), _LARGE),
    "lenet-resize": Twin("lenet", "resize", _zoo("lenet", "resize"), (*_LARGE, Size(23, 64))),
    "photo": Twin(None, None, Photo, (Size(24, 31), Size(32, 32), Size(33, 20))),
    "response": Twin(None, None, lambda: Photo(normalise=True), (Size(32, 32), Size(35, 22))),
    "masked": Twin(None, None, lambda: Photo(mask=True), (Size(32, 32), Size(33, 20))),
    "labels": Twin(None, None, lambda: Photo(label=True), (Size(32, 32), Size(33, 20))),
}
