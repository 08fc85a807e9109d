"""Every architecture, at its own size and, for tests, narrow and short at a small one."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field

from torch import nn

__all__ = ["ARCHITECTURES", "Architecture"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """Where an architecture is, and how large.

    Attributes:
        name: Its function.
        module: The module that has it.
        size: Training size, `HEIGHTxWIDTH`.
        small: Arguments of the small one, which has every kind of layer of the large one.
        small_size: Training size of the small one.
    """

    name: str
    module: str
    size: str = "224x224"
    small: dict[str, int] = field(default_factory=dict)
    small_size: str = "40x40"

    def build(self, *, is_small: bool) -> nn.Module:
        """Build it, in evaluation mode, with seeded weights."""
        module = importlib.import_module(f"architectures.{self.module}")
        network: nn.Module = getattr(module, self.name)(**(self.small if is_small else {}))
        return network


_NARROW = {"width": 8, "hidden": 64, "classes": 10}

ARCHITECTURES = (
    Architecture("alexnet", "alexnet", small=_NARROW, small_size="70x70"),
    Architecture("vgg11", "vgg", small=_NARROW),
    Architecture("ferplus", "vgg", "64x64", {"width": 8}, "64x64"),
    Architecture("googlenet", "googlenet", small={"classes": 10}),
    Architecture("googlenet_bn", "googlenet", small={"classes": 10}),
    Architecture("densenet121", "densenet", small={"growth": 8, "longest": 2}, small_size="32x32"),
    Architecture("mobilenet_v2", "mobilenet_v2", small={"classes": 10, "longest": 2}),
    Architecture("mobilenet_v3_small", "mobilenet_v3", small={"classes": 10}),
    Architecture("efficientnet_b0", "efficientnet", small={"classes": 10, "longest": 2}),
    Architecture("regnet_y_400mf", "regnet", small={"classes": 10, "longest": 2}),
    Architecture("shufflenet_v2", "shufflenet_v2", small={"classes": 10, "longest": 2}),
    Architecture("squeezenet1_1", "squeezenet", small={"classes": 10}, small_size="20x20"),
    Architecture("convnext_tiny", "convnext", small={"width": 8, "longest": 1, "classes": 10}),
    Architecture("arcface", "arcface", "112x112", {"width": 8, "classes": 16}, "112x112"),
    Architecture("age_gender", "age_gender", "227x227", {"width": 8}, "227x227"),
    Architecture("spp_net", "pyramid_pooling", "64x64", {"width": 8}, "21x21"),
    Architecture("pyramid_scene", "pyramid_pooling", "64x64", {"width": 8}, "21x21"),
    Architecture("group_norm_net", "group_norm", "64x64", {"width": 8}, "24x24"),
)
