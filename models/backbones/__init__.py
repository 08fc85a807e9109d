"""Backbones: the layers from the image to the last feature map, one network per file."""

from __future__ import annotations

from anysize.models.backbones.backbone import Backbone, ClassifierShape

__all__ = ["Backbone", "ClassifierShape"]
