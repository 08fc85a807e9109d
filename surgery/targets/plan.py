"""What a target made of a file."""

from __future__ import annotations

from dataclasses import dataclass

from anysize.sizes import Size, SizeRange
from anysize.surgery.heads import Head
from anysize.surgery.targets.fc_to_conv import Output

__all__ = ["NotNeeded", "Output", "Rewritten"]


@dataclass(frozen=True, slots=True)
class NotNeeded:
    """There is nothing to rewrite; `reason` says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A graph that was rewritten.

    Attributes:
        size: The training size, or one that it takes where `is_size_assumed`.
        sizes: The images that it takes.
        classes: Number of classes; None where no layer says.
        map_tensor: The dense map; "" where there is none.
        head: The fixed-size head that was found; None where the target needs none.
        kept: Tensors up to which the graph is as it was and sees the image at its own size; empty
            where that is the whole graph.
        notes: What the user should know about it.
        is_size_assumed: Nobody says what the training size is.
    """

    size: Size
    sizes: SizeRange
    classes: int | None
    map_tensor: str = ""
    head: Head | None = None
    kept: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_size_assumed: bool = False
