"""PyTorch models: backbones, heads, the zoo of names, and safe weight loading.

Importing this package loads no torch; the names below that need it do so when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.lazy import lazy_names

if TYPE_CHECKING:
    from anysize.models.assemble import build, construct
    from anysize.models.classifier import Classifier
    from anysize.models.configured import configured_preprocessing
    from anysize.models.heads import HeadOptions
    from anysize.models.source import LIBRARIES, ResolvedModel, image_channels, resolve
    from anysize.models.weights import load_weights, state_sha256
    from anysize.models.work import layer_count, multiply_adds
    from anysize.models.zoo import HEADS, ZOO, ZooEntry, choose_head, find_entry

__all__ = [
    "HEADS",
    "LIBRARIES",
    "ZOO",
    "Classifier",
    "HeadOptions",
    "ResolvedModel",
    "ZooEntry",
    "build",
    "choose_head",
    "configured_preprocessing",
    "construct",
    "find_entry",
    "image_channels",
    "layer_count",
    "load_weights",
    "multiply_adds",
    "resolve",
    "state_sha256",
]

__getattr__ = lazy_names(
    __name__,
    {
        "zoo": ("HEADS", "ZOO", "ZooEntry", "choose_head", "find_entry"),
        "assemble": ("build", "construct"),
        "classifier": ("Classifier",),
        "configured": ("configured_preprocessing",),
        "heads": ("HeadOptions",),
        "source": ("LIBRARIES", "ResolvedModel", "image_channels", "resolve"),
        "weights": ("load_weights", "state_sha256"),
        "work": ("layer_count", "multiply_adds"),
    },
)
