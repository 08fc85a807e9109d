"""The reference for a file whose head was converted: made from the original's own parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from anysize.heads import head_kind
from anysize.sizes import Size
from anysize.validators.references.composed.pooled import PooledReference
from anysize.validators.references.composed.resized import ResizedReference
from anysize.validators.references.composed.windows import WindowsReference
from anysize.validators.references.protocol import FcOriginal, Reference

if TYPE_CHECKING:
    from anysize.surgery.targets import Output

__all__ = ["converted_reference"]


def converted_reference(
    head: str | None,
    *,
    halves: Callable[[], FcOriginal],
    whole: Callable[[], Reference],
    size: Size | None,
    layout: Output,
    sides: tuple[int, int] = (2, 3),
) -> Reference:
    """Make the reference for a file with this head.

    Args:
        head: What the file says of itself; `fcn` where it says nothing.
        halves: Cuts the original into features and head; called where they are needed.
        whole: Gives the original as it stands; called where it is needed.
        size: The training size, which `resize` needs.
        layout: What a class map's file hands out.
        sides: Where the original's image has its height and its width.
    """
    elsewhere = head_kind(head).elsewhere
    if elsewhere == "resizes" and size is not None:
        return ResizedReference(whole(), size, axes=sides)
    if elsewhere == "pools":
        return PooledReference(halves())
    return WindowsReference(halves(), layout=layout)
