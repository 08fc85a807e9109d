"""The zoo: every network by name, where it is built and which heads it offers. Loads no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from anysize.errors import SourceError, UsageError
from anysize.heads import HEAD_KINDS
from anysize.sizes import Size

__all__ = ["HEADS", "ZOO", "ZooEntry", "choose_head", "find_entry"]

# Every head that has a name; a network offers those that make sense for it.
HEADS = tuple(name for name, kind in HEAD_KINDS.items() if kind.checkpoint)

_RESNET_HEADS = ("gap", "cam", "spp", "resize")
_NIN_HEADS = ("gap", "cam", "resize")


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """One network of the zoo.

    Attributes:
        path: `package.module:function` of the function that returns its backbone.
        heads: The heads it offers; the first one is the default.
        channels: Channels of the input image.
        classes: Number of classes unless another number is asked for.
        training_size: The image size that its head is built for unless another is asked for.
    """

    path: str
    heads: tuple[str, ...]
    channels: int
    classes: int
    training_size: Size

    @property
    def default_head(self) -> str:
        """The head that is built when none is named."""
        return self.heads[0]


def _entry(
    path: str, heads: tuple[str, ...], *, channels: int = 3, classes: int = 1000, side: int = 224
) -> ZooEntry:
    """Describe a network, by default one for ImageNet."""
    return ZooEntry(f"anysize.models.backbones.{path}", heads, channels, classes, Size(side, side))


ZOO: Mapping[str, ZooEntry] = MappingProxyType(
    {
        "alexnet": _entry("alexnet:alexnet", HEADS),
        "digits": _entry("digits:digits", HEADS, channels=1, classes=11, side=32),
        "lenet": _entry("lenet:lenet", HEADS, channels=1, classes=10, side=32),
        "nin": _entry("nin:nin", _NIN_HEADS),
        "resnet18": _entry("resnet:resnet18", _RESNET_HEADS),
        "resnet34": _entry("resnet:resnet34", _RESNET_HEADS),
        "resnet50": _entry("resnet:resnet50", _RESNET_HEADS),
        "vgg11": _entry("vgg:vgg11", HEADS),
        "vgg11_bn": _entry("vgg:vgg11_bn", HEADS),
        "vgg13": _entry("vgg:vgg13", HEADS),
        "vgg13_bn": _entry("vgg:vgg13_bn", HEADS),
        "vgg16": _entry("vgg:vgg16", HEADS),
        "vgg16_bn": _entry("vgg:vgg16_bn", HEADS),
        "vgg19": _entry("vgg:vgg19", HEADS),
        "vgg19_bn": _entry("vgg:vgg19_bn", HEADS),
    }
)


def find_entry(name: str) -> ZooEntry:
    """Look up a network of the zoo.

    Raises:
        SourceError: The zoo has no network of that name; close matches and the list are named.
    """
    entry = ZOO.get(name)
    if entry is not None:
        return entry
    close = difflib.get_close_matches(name.lower(), ZOO, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise SourceError(
        f"model {name!r}: not in the zoo; {hint}the zoo has {', '.join(sorted(ZOO))}; "
        "a model of your own is written package.module:callable"
    )


def choose_head(name: str, head: str | None) -> str:
    """Return the head to build for the network `name`: the one asked for, or its default.

    Raises:
        SourceError: The zoo has no such network.
        UsageError: The network does not offer that head.
    """
    entry = find_entry(name)
    if head is None:
        return entry.default_head
    if head in entry.heads:
        return head
    offered = ", ".join(entry.heads)
    if head not in HEADS:
        raise UsageError(f"head {head!r}: unknown; {name} offers {offered}")
    raise UsageError(f"{name}: head {head!r} is not offered; it offers {offered}")
