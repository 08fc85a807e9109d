"""Image sizes: how they are written, and ranges of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from anysize.errors import UsageError

__all__ = ["ANY_SIDE", "AXES", "MAX_SIDE", "AnySize", "Size", "SizeRange", "Steps", "to_sizes"]

# A side beyond this is a typo or an attack: one float32 RGB image of 65536×65536 is 48 GiB.
MAX_SIDE = 65536
# The axes of images that a file may leave free.
AXES = ("batch", "height", "width")

# A size as callers write it.
AnySize: TypeAlias = "Size | str | int | Sequence[int]"

_STEPS = re.compile(r"([0-9]{1,5}):([0-9]{1,5}(?:,[0-9]{1,5}){0,4095})")
_SIDE = "([0-9]{1,9})"
_SIZE = re.compile(rf"{_SIDE}(?: *[xX×] *{_SIDE})?|(?:Size *)?[(\[] *{_SIDE} *, *{_SIDE} *[)\]]")
_BETWEEN_SIZES = re.compile(r",(?![^(\[]*[)\]])")
_FORMS = "HEIGHTxWIDTH such as 224x320, or one number for a square"


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
        """Read `224x320` or `(224, 320)`, height first, or `224`, which is a square.

        Raises:
            UsageError: The text is none of them, or a side is out of range.
        """
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"size {text!r}: expected {_FORMS}")
        height, width = match[1] or match[3], match[2] or match[4] or match[1]
        return cls(int(height), int(width))

    @classmethod
    def of(cls, value: AnySize) -> Size:
        """Read a size as callers give it: a Size, text, (height, width), or the side of a square.

        Raises:
            UsageError: It is none of them.
        """
        if isinstance(value, Size):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        if type(value) is int:
            return cls(value, value)
        if [type(side) for side in _listed(value)] == [int, int]:
            return cls(*_listed(value))  # type: ignore[arg-type]  # two whole numbers, as just seen
        raise UsageError(f"size {value!r}: expected {_FORMS}, (height, width), or a Size")

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
        if top == self.minimum:
            return f"{top} only"
        text = f"{self.minimum} to {top}" if top else f"{self.minimum} and up"
        if self.heights == self.widths:
            return text if self.heights.is_any else f"{text}, {self.heights}"
        return f"{text}, heights {self.heights}, widths {self.widths}"


def _sides(least: int, most: int, steps: Steps) -> str:
    if least == most:
        return str(least)
    text = f"{least} and up" if most == MAX_SIDE else f"{least} to {most}"
    return text if steps.is_any else f"{text} in {steps}"


def to_sizes(
    sizes: AnySize | Sequence[AnySize],
) -> tuple[Size, ...] | Literal["auto", "quick"]:
    """Read several sizes as callers give them, in their order and without repeats.

    Args:
        sizes: Text, in which commas separate sizes, a Size, or a sequence of what `Size.of` takes;
            a whole number is a square, in a sequence too: `[224, 320]` are two of them. The words
            `auto` and `quick` stay what they are.

    Raises:
        UsageError: There is none, or one is no size.
    """
    if isinstance(sizes, str):
        chosen: dict[str, Literal["auto", "quick"]] = {"auto": "auto", "quick": "quick"}
        word = chosen.get(sizes.strip())
        if word is not None:
            return word
        sizes = [entry for entry in _BETWEEN_SIZES.split(sizes) if entry.strip()]
        if not sizes:
            raise UsageError("sizes: got none, expected a list such as 224x224,256x320")
    if isinstance(sizes, (Size, int)):
        sizes = [sizes]
    return tuple(dict.fromkeys(Size.of(size) for size in sizes))


def _listed(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else ()
