"""Image sizes: how they are written, and ranges of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from anysize.errors import UsageError

__all__ = ["ANY_SIDE", "MAX_SIDE", "Size", "SizeRange", "Steps", "parse_sizes", "to_sizes"]

# A side beyond this is a typo or an attack: one float32 RGB image of 65536×65536 is 48 GiB.
MAX_SIDE = 65536

_STEPS = re.compile(r"([0-9]{1,5}):([0-9]{1,5}(?:,[0-9]{1,5}){0,4095})")
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
class Steps:
    """The sides that a network can take by their remainders: multiples of 4, or any.

    Skip connections over an upsampled map and space-to-depth take multiples of their stride; a
    pooling that rounds up beside a convolution that rounds down takes some remainders of it.

    Attributes:
        step: What a side is divided by, in pixels.
        remainders: Those that are possible, ascending.
    """

    step: int = 1
    remainders: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        within = all(0 <= remainder < self.step for remainder in self.remainders)
        if not 1 <= self.step <= MAX_SIDE or not self.remainders or not within:
            raise UsageError(f"steps of {self.step} with remainders {self.remainders}: make no set")

    @classmethod
    def parse(cls, text: str) -> Steps:
        """Read what `str(steps)` without words is written as in a file: `4:0` or `8:0,1,4`.

        Raises:
            UsageError: The text is none.
        """
        match = _STEPS.fullmatch(text)
        if match is None:
            raise UsageError(f"steps {text[:40]!r}: expected STEP:REMAINDER,…, for example 4:0")
        return cls(int(match[1]), tuple(sorted({int(part) for part in match[2].split(",")})))

    def written(self) -> str:
        """Return the text that `parse` reads."""
        return f"{self.step}:{','.join(str(remainder) for remainder in self.remainders)}"

    @property
    def is_any(self) -> bool:
        """Whether every side is possible."""
        return len(self.remainders) == self.step

    def __contains__(self, side: int) -> bool:
        return side % self.step in self.remainders

    def __and__(self, other: Steps) -> Steps:
        """Return the sides in both; raises UsageError where there are none."""
        step = math.lcm(self.step, other.step)
        return Steps(step, tuple(side for side in range(step) if side in self and side in other))

    def from_(self, side: int, *, down: bool = False) -> int:
        """Return the nearest possible side that is not below `side`, or, `down`, not above it."""
        sides = range(side, side - self.step, -1) if down else range(side, side + self.step)
        return next(one for one in sides if one in self)

    def __str__(self) -> str:
        if self.is_any:
            return "any"
        if self.remainders == (0,):
            return f"multiples of {self.step}"
        listed = [str(remainder) for remainder in self.remainders]
        more = " or ".join(filter(None, (", ".join(listed[:-1]), listed[-1])))
        return f"{more} more than multiples of {self.step}"


ANY_SIDE = Steps()


@dataclass(frozen=True, slots=True)
class SizeRange:
    """The sizes that a network takes, on each axis by itself.

    Attributes:
        minimum: The least height and width.
        maximum: The largest, inclusive; None where there is no bound.
        heights: The remainders that a height between them may have.
        widths: The same of a width.
    """

    minimum: Size
    maximum: Size | None = None
    heights: Steps = ANY_SIDE
    widths: Steps = ANY_SIDE

    def __post_init__(self) -> None:
        top = self.maximum
        if top and (top.height < self.minimum.height or top.width < self.minimum.width):
            raise UsageError(f"largest size {top} is below the smallest, {self.minimum}")

    def __contains__(self, size: Size) -> bool:
        low, top = self.minimum, self.maximum
        if size.height < low.height or size.width < low.width:
            return False
        if size.height not in self.heights or size.width not in self.widths:
            return False
        return top is None or (size.height <= top.height and size.width <= top.width)

    def __and__(self, other: SizeRange) -> SizeRange:
        """Return the sizes in both ranges; raises UsageError where there are none."""
        heights, widths = self.heights & other.heights, self.widths & other.widths
        low = Size(
            heights.from_(max(self.minimum.height, other.minimum.height)),
            widths.from_(max(self.minimum.width, other.minimum.width)),
        )
        tops = [one for one in (self.maximum, other.maximum) if one is not None]
        if not tops:
            return SizeRange(low, None, heights, widths)
        top = Size(
            max(heights.from_(min(one.height for one in tops), down=True), 1),
            max(widths.from_(min(one.width for one in tops), down=True), 1),
        )
        return SizeRange(low, top, heights, widths)

    def near(self, height: int, width: int) -> Size | None:
        """Return the size of the set at `height`×`width` or a little above; None beyond it."""
        low, top = self.minimum, self.maximum
        sides = (
            self.heights.from_(max(height, low.height)),
            self.widths.from_(max(width, low.width)),
        )
        if max(sides) > MAX_SIDE:
            return None
        size = Size(*sides)
        return None if top and (size.height > top.height or size.width > top.width) else size

    def larger(self, size: Size) -> Size:
        """Return a size of the set about twice as high and three times as wide, if there is one."""
        top = self.maximum or Size(MAX_SIDE, MAX_SIDE)
        height, width = min(2 * size.height, top.height), min(3 * size.width, top.width)
        return self.near(height, width) or size

    @property
    def fixed_sides(self) -> tuple[str, ...]:
        """The sides that can be one length alone: height, width."""
        low, top = self.minimum, self.maximum
        if top is None:
            return ()
        return tuple(
            side for side in ("height", "width") if getattr(low, side) == getattr(top, side)
        )

    def __str__(self) -> str:
        top = self.maximum
        if top is not None and MAX_SIDE in (top.height, top.width):
            height = _sides(self.minimum.height, top.height, self.heights)
            return f"height {height}, width {_sides(self.minimum.width, top.width, self.widths)}"
        text = f"{self.minimum} to {top}" if top else f"{self.minimum} and up"
        if self.heights == self.widths:
            return text if self.heights.is_any else f"{text}, {self.heights}"
        return f"{text}, heights {self.heights}, widths {self.widths}"


def _sides(least: int, most: int, steps: Steps) -> str:
    if least == most:
        return str(least)
    text = f"{least} and up" if most == MAX_SIDE else f"{least} to {most}"
    return text if steps.is_any else f"{text} in {steps}"


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
) -> tuple[Size, ...] | Literal["auto", "quick"]:
    """Read sizes as callers give them: text as `parse_sizes` takes it, Size, or (height, width).

    The words `auto` and `quick` stay what they are.

    Raises:
        UsageError: One is none of these.
    """
    if isinstance(sizes, str):
        chosen: dict[str, Literal["auto", "quick"]] = {"auto": "auto", "quick": "quick"}
        return chosen.get(sizes.strip()) or parse_sizes(sizes)
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
