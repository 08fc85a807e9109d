"""Image sizes: how they are written, and ranges of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from anysize.errors import UsageError

__all__ = ["MAX_SIDE", "Size", "SizeRange", "parse_sizes", "to_sizes"]

# A side beyond this is a typo or an attack: one float32 RGB image of 65536×65536 is 48 GiB.
MAX_SIDE = 65536

_SIZE = re.compile(r"([0-9]{1,9})[xX×]([0-9]{1,9})")


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """Height and width of an image or a map, in pixels or cells, each ≥ 1."""

    height: int
    width: int

    def __post_init__(self) -> None:
        for name, side in (("height", self.height), ("width", self.width)):
            if not 1 <= side <= MAX_SIDE:
                raise UsageError(
                    f"size {self.height}x{self.width}: {name} is {side}, expected 1 to {MAX_SIDE}"
                )

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read `HEIGHTxWIDTH`, for example `224x320`.

        Raises:
            UsageError: The text is not two whole numbers joined by an x, or one is out of range.
        """
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"size {text!r}: expected HEIGHTxWIDTH in pixels, for example 224x320")
        return cls(int(match[1]), int(match[2]))

    @property
    def area(self) -> int:
        """Height × width."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Sizes from `minimum` to `maximum`, inclusive on each axis; `maximum` None is unbounded."""

    minimum: Size
    maximum: Size | None = None

    def __post_init__(self) -> None:
        top = self.maximum
        if top and (top.height < self.minimum.height or top.width < self.minimum.width):
            raise UsageError(f"largest size {top} is below the smallest, {self.minimum}")

    def __contains__(self, size: Size) -> bool:
        low, top = self.minimum, self.maximum
        if size.height < low.height or size.width < low.width:
            return False
        return top is None or (size.height <= top.height and size.width <= top.width)

    def __and__(self, other: SizeRange) -> SizeRange:
        """Return the sizes in both ranges; raises UsageError where there are none."""
        low = Size(
            max(self.minimum.height, other.minimum.height),
            max(self.minimum.width, other.minimum.width),
        )
        tops = [one for one in (self.maximum, other.maximum) if one is not None]
        if not tops:
            return SizeRange(low)
        top = Size(min(one.height for one in tops), min(one.width for one in tops))
        return SizeRange(low, top)

    def __str__(self) -> str:
        return f"{self.minimum} to {self.maximum}" if self.maximum else f"{self.minimum} and up"


def parse_sizes(text: str) -> tuple[Size, ...]:
    """Read a comma-separated list of sizes, in its order and without repeats.

    Raises:
        UsageError: The list is empty or an entry is not a size.
    """
    entries = [entry for entry in text.split(",") if entry.strip()]
    if not entries:
        raise UsageError(f"sizes {text!r}: expected a list such as 224x224,256x320")
    return tuple(dict.fromkeys(Size.parse(entry) for entry in entries))


def to_sizes(
    sizes: str | Sequence[Size | str | Sequence[int]],
) -> tuple[Size, ...] | Literal["auto"]:
    """Read sizes as callers give them: text as `parse_sizes` takes it, Size, or (height, width).

    Raises:
        UsageError: One is none of these.
    """
    if isinstance(sizes, str):
        return "auto" if sizes.strip() == "auto" else parse_sizes(sizes)
    if isinstance(sizes, Size):
        return (sizes,)
    found: list[Size] = []
    for size in sizes:
        if isinstance(size, Size):
            found.append(size)
        elif isinstance(size, str):
            found.append(Size.parse(size))
        elif [type(side) for side in _listed(size)] == [int, int]:
            found.append(Size(*size))
        else:
            raise UsageError(f"size {size!r}: expected a Size, HEIGHTxWIDTH, or (height, width)")
    return tuple(found)


def _listed(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else ()
