"""What a network's own configuration says of its images."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from anysize.errors import UsageError
from anysize.lazy import load
from anysize.preprocessing import Preprocessing

__all__ = ["configured_preprocessing"]

_WEIGHTS = "torchvision.models:get_model_weights"


def configured_preprocessing(module: nn.Module, source: str = "") -> Preprocessing | None:
    """Return how a network's images are prepared, as timm or torchvision has it; None elsewhere.

    Nothing is downloaded: timm's networks carry `pretrained_cfg`, torchvision's weights by default
    have transforms.

    Args:
        module: The network.
        source: The SOURCE that it was built from; "" where it was none.
    """
    for name in ("pretrained_cfg", "default_cfg"):
        said = getattr(module, name, None)
        if isinstance(said, Mapping) and said.get("mean") and said.get("std"):
            return _read(said["mean"], said["std"], said.get("crop_pct"), said.get("interpolation"))
    library, _, name = source.partition(":")
    if library != "torchvision":
        return None
    try:
        transforms: Any = load(_WEIGHTS)(name).DEFAULT.transforms()
        crop = transforms.crop_size[0] / transforms.resize_size[0]
        how = transforms.interpolation.value
    except Exception:  # a network without weights, or transforms of another kind
        return None
    return _read(transforms.mean, transforms.std, crop, how)


def _read(mean: Any, std: Any, crop: Any, interpolation: Any) -> Preprocessing | None:
    """Make one value of a configuration; what it says beyond our words is left out."""
    found = Preprocessing(order="rgb", scale=1 / 255)
    with contextlib.suppress(UsageError, TypeError):
        found = Preprocessing(mean=tuple(mean), std=tuple(std)).over(found)
        for said in ({"crop": crop}, {"interpolation": interpolation}):
            with contextlib.suppress(UsageError):
                found = Preprocessing(**said).over(found)
        return found
    return None
