"""PyTorch models: backbones, heads, the zoo of names, and safe weight loading.

Importing this package loads no torch; the names below that need it do so when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from anysize.models.zoo import HEADS, ZOO, ZooEntry

if TYPE_CHECKING:
    from anysize.models.assemble import build, construct
    from anysize.models.classifier import Classifier
    from anysize.models.heads import HeadOptions
    from anysize.models.source import ResolvedModel, resolve
    from anysize.models.weights import load_weights

__all__ = [
    "HEADS",
    "ZOO",
    "Classifier",
    "HeadOptions",
    "ResolvedModel",
    "ZooEntry",
    "build",
    "construct",
    "load_weights",
    "resolve",
]

_LAZY = {
    "Classifier": "anysize.models.classifier",
    "HeadOptions": "anysize.models.heads",
    "ResolvedModel": "anysize.models.source",
    "build": "anysize.models.assemble",
    "construct": "anysize.models.assemble",
    "load_weights": "anysize.models.weights",
    "resolve": "anysize.models.source",
}


def __getattr__(name: str) -> object:
    """Import a name of this package when it is first used."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)
