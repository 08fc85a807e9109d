"""How a constant lies along a tensor that it is broadcast with."""

from __future__ import annotations

from anysize.surgery.heads.constants import Constant
from anysize.surgery.heads.layout import Layout

__all__ = ["meaning", "per_feature"]


def meaning(constant: Constant, layout: Layout, start: int | None = None) -> str | None:
    """Return the letters that the constant tells apart; None where it has more axes than `layout`.

    Args:
        constant: Broadcast with a tensor of that layout.
        layout: The tensor's.
        start: The tensor's axis that the constant's first one lies on (operators before opset 7);
            its last axes, by default.
    """
    rank, dims = len(layout.axes), constant.dims
    if len(dims) > rank and start is None:
        return None
    place = rank - len(dims) if start is None else (start + rank if start < 0 else start)
    letters = ""
    for offset, side in enumerate(dims):
        if side != 1:
            if place + offset >= rank:
                return None
            on_axis = layout.axes[place + offset]
            letters += "".join(letter for letter in on_axis if layout.count(letter) != 1)
    return letters


def per_feature(
    constant: Constant, layout: Layout, dims: tuple[int, ...], start: int | None = None
) -> Constant | None:
    """Return the constant seen as `dims` where it has one element, or one for each feature.

    One element stays as it is. None where it is neither, or its scales cannot follow.
    """
    letters = meaning(constant, layout, start)
    if constant.elements == 1 and letters is not None:
        return constant
    if letters != "C" or constant.elements != layout.channels:
        return None
    seen = constant.viewed(dims, range(len(dims)))
    return None if -1 in seen.scale_axes else seen
