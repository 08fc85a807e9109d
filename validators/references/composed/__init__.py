"""References composed of a model's parts: windows of its map, a pooled map, a resized image."""

from __future__ import annotations

from anysize.validators.references.composed.converted import (
    converted_reference,
)
from anysize.validators.references.composed.one_cell import OneCellReference
from anysize.validators.references.composed.several_heads import Part, SeveralHeads
from anysize.validators.references.composed.turned import TurnedReference
from anysize.validators.references.composed.windows import WindowsReference

__all__ = [
    "OneCellReference",
    "Part",
    "SeveralHeads",
    "TurnedReference",
    "WindowsReference",
    "converted_reference",
]
