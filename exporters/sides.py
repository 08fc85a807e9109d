"""Modules of signals and of videos, which have another number of sides than images."""

from __future__ import annotations

from torch import nn

from anysize.errors import ExportError

__all__ = ["refuse_other_sides"]

_SIDES = {nn.Conv1d: "one side, as of a signal", nn.Conv3d: "three sides, as of a video"}


def refuse_other_sides(module: nn.Module) -> None:
    """Refuse a module whose first convolution is not one of images.

    Raises:
        ExportError: Its first convolution has one side, or three.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    first = next((layer for layer in module.modules() if isinstance(layer, kinds)), None)
    for kind, what in _SIDES.items():
        if isinstance(first, kind):
            raise ExportError(
                f"{type(module).__name__}: its first convolution is a {kind.__name__}, which has "
                f"{what}; an image has two: (batch, channels, height, width)"
            )
