"""How pixels become what a network takes: one value, from flags, a configuration or a file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Literal

from anysize.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Preprocessing", "preprocessing_of_texts"]

# What nearly all networks that were trained on ImageNet take; grey images are taken as they are.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ORDERS = ("rgb", "bgr")
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Each value of a picture, 0 to 255, becomes (value · scale − mean) / std of its channel.

    What is None is not said: `over` takes it from another one, `complete` assumes it.

    Attributes:
        order: Of the channels, where there are three: `rgb` or `bgr`.
        scale: What a value is multiplied by: 1/255, or 1 for a network that takes 0 to 255.
        mean: One number, or one for each channel, in the network's order of channels.
        std: The deviation, likewise.
        crop: The part of an image's shorter side that is kept where it is cropped, 0 to 1.
        interpolation: How an image is resized: `nearest`, `bilinear`, `bicubic` or `lanczos`.
    """

    order: Literal["rgb", "bgr"] | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop: float | None = None
    interpolation: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("order", _ORDERS), ("interpolation", _INTERPOLATIONS)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise UsageError(f"{name} {value!r}: expected {', '.join(known)}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and not (values and all(map(_is_number, values))):
                raise UsageError(f"{name} {values!r}: expected a number, or one for each channel")
        if self.std is not None and min(self.std) <= 0:
            raise UsageError(f"std {self.std!r}: expected numbers above 0")
        if self.scale is not None and not (_is_number(self.scale) and self.scale > 0):
            raise UsageError(f"scale {self.scale!r}: expected a number above 0, such as 1/255")
        if self.crop is not None and not (_is_number(self.crop) and 0 < self.crop <= 1):
            raise UsageError(f"crop {self.crop!r}: expected a number above 0, up to 1")

    @property
    def is_said(self) -> bool:
        """Whether anything is known."""
        return self != Preprocessing()

    def over(self, other: Preprocessing | None) -> Preprocessing:
        """Return this one, and from the other what it does not say."""
        if other is None:
            return self
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        return Preprocessing(**{n: getattr(other, n) if v is None else v for n, v in mine.items()})

    def complete(self, channels: int, *, takes_bytes: bool = False) -> Preprocessing:
        """Say everything, for a network of so many channels.

        Where neither scale, mean nor std is known: the mean and deviation of ImageNet for three
        channels, 0 to 1 for others, and plain values for a network that takes bytes.

        Raises:
            UsageError: There are numbers for another number of channels.
        """
        is_scaled = (self.scale, self.mean, self.std) != (None, None, None)
        is_assumed = channels == 3 and not (is_scaled or takes_bytes)
        mean, std = (_MEAN, _STD) if is_assumed else ((0.0,), (1.0,))
        scale = 1.0 if takes_bytes else 1 / 255
        order: Literal["rgb"] | None = "rgb" if channels == 3 else None
        done = self.over(Preprocessing(order, scale, mean, std, 1.0, "bilinear"))
        for name in ("mean", "std"):
            count = len(getattr(done, name))
            if count not in (1, channels):
                raise UsageError(f"{name}: got {count} numbers, expected 1 or {channels}")
        return done

    @staticmethod
    def chosen(
        asked: Preprocessing | None,
        recorded: Preprocessing | None,
        channels: int,
        *,
        takes_bytes: bool = False,
    ) -> tuple[Preprocessing, Literal["flags", "file", "assumed"]]:
        """Return what holds for a file, complete, and who says so.

        Args:
            asked: What the user says, which goes first.
            recorded: What the file says.
            channels: See `complete`.
            takes_bytes: See `complete`.

        Raises:
            UsageError: There are numbers for another number of channels.
        """
        mine = asked or Preprocessing()
        said = mine.over(recorded)
        who: Literal["flags", "file", "assumed"] = "file" if said.is_said else "assumed"
        return said.complete(channels, takes_bytes=takes_bytes), "flags" if mine.is_said else who

    def applied(self, pixels: NDArray[np.float32], dtype: str = "float32") -> NDArray[np.generic]:
        """Turn pixels (height, width, channels), 0 to 255, into (channels, height, width).

        Args:
            pixels: Red first where there are three channels.
            dtype: The type that the network takes; whole numbers are rounded to.
        """
        import numpy as np

        whole = self.complete(pixels.shape[2], takes_bytes=dtype == "uint8")
        scale, mean, std = (np.asarray(x, np.float32) for x in (whole.scale, whole.mean, whole.std))
        values = pixels[:, :, ::-1] if whole.order == "bgr" and pixels.shape[2] == 3 else pixels
        values = (values * scale - mean) / std
        if dtype == "uint8":
            values = np.clip(np.rint(values), 0, 255)
        return np.ascontiguousarray(values.transpose(2, 0, 1)).astype(dtype)

    def to_json(self) -> str:
        """Write what is said; `from_json` reads it."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(said, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Preprocessing:
        """Read what `to_json` wrote.

        Raises:
            UsageError: The text is none, or a value is out of range.
        """
        try:
            said = json.loads(text)
            numbers = {name: tuple(said[name]) for name in ("mean", "std") if name in said}
            return Preprocessing(**{**said, **numbers})
        except (ValueError, TypeError, RecursionError) as exc:
            raise UsageError(f"preprocessing {text[:60]!r}: cannot be read") from exc

    def __str__(self) -> str:
        scale = None if self.scale is None else f"value × {_fraction(self.scale)}"
        parts = (
            self.order,
            scale,
            None if self.mean is None else f"mean {_listed(self.mean)}",
            None if self.std is None else f"std {_listed(self.std)}",
            None if self.crop is None else f"crop {self.crop:g}",
            self.interpolation,
        )
        return ", ".join(filter(None, parts)) or "not said"


def preprocessing_of_texts(
    *,
    mean: str | None = None,
    std: str | None = None,
    scale: str | None = None,
    bgr: bool = False,
    crop: float | None = None,
) -> Preprocessing:
    """Read what the command line says: `0.485,0.456,0.406`, `1/255`.

    Raises:
        UsageError: A number is none, or out of range.
    """
    return Preprocessing(
        order="bgr" if bgr else None,
        scale=None if scale is None else _numbers("scale", scale)[0],
        mean=None if mean is None else _numbers("mean", mean),
        std=None if std is None else _numbers("std", std),
        crop=crop,
    )


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(_quotient(entry) for entry in text.split(","))
    except (ValueError, ArithmeticError) as exc:
        raise UsageError(
            f"--{option} {text!r}: expected numbers such as 0.5, 1/255 or 0.485,0.456,0.406"
        ) from exc


def _quotient(text: str) -> float:
    above, stroke, below = text.partition("/")
    return float(above) / float(below) if stroke else float(above)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value)


def _fraction(scale: float) -> str:
    return f"1/{1 / scale:g}" if scale < 1 else f"{scale:g}"


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
