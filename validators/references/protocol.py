"""What the truth is taken from: the original, in float32 and again in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FcOriginal",
    "NumberType",
    "Perturbed",
    "Precision",
    "Recorded",
    "Reference",
    "Rejected",
    "number_type",
]

Array = NDArray[np.generic]
NumberType = Literal["float32", "float64"]


@dataclass(frozen=True, slots=True)
class Perturbed:
    """Float32, with the result of each layer moved by up to one float32 step either way.

    So a layer's rounding falls otherwise, as in another right implementation of it (Monte Carlo
    arithmetic: Parker, UCLA CSD-970002, 1997; Verificarlo, ARITH 2016).

    Attributes:
        draw: Seeds the steps: another number, another rounding.
    """

    draw: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """Plain float32 or float64, with each tensor on the way written down.

    Attributes:
        folder: Receives the tensors, for `read_steps`.
        numbers: What is computed in.
    """

    folder: Path
    numbers: NumberType = "float64"


Precision = NumberType | Perturbed | Recorded


def number_type(precision: Precision) -> NumberType:
    """Return what numbers are held in where one computes in `precision`."""
    if isinstance(precision, Recorded):
        return precision.numbers
    return "float32" if isinstance(precision, Perturbed) else precision


@dataclass(frozen=True, slots=True)
class Rejected:
    """The original does not take this input; `reason` is in its own words, on one line."""

    reason: str


@runtime_checkable
class Reference(Protocol):
    """An original to compare with.

    Attributes:
        name: How reports call it.
        kind: How the expected outputs come about: `module`, `onnx` or `windows`.
        output_names: The names of the outputs, or None where they have none.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def output_names(self) -> tuple[str, ...] | None: ...  # noqa: D102

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Compute all outputs in `precision`, or say that the original rejects the inputs."""
        ...

    def close(self) -> None:
        """Release what it holds; what is asked afterwards is loaded anew."""
        ...


class FcOriginal(Protocol):
    """A fixed-size original in two halves, for the proof of a fully convolutional rewrite.

    Attributes:
        name: How reports call it.
        window: Height and width of the feature map that its fully connected head takes.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def window(self) -> tuple[int, int]: ...  # noqa: D102

    def features(self, images: Array, precision: Precision) -> Array | Rejected:
        """Map `(batch, channels, height, width)` to `(batch, C, map_height, map_width)`."""
        ...

    def head(self, windows: Array, precision: Precision) -> tuple[Array, ...]:
        """Map windows `(count, C, h, w)` to the head's outputs `(count, classes)`."""
        ...

    def scores(self, windows: Array, precision: Precision) -> tuple[Array, ...]:
        """Map windows to what the head's Softmax, LogSoftmax or ArgMax reads; else its outputs."""
        ...

    def finish(self, scores: tuple[Array, ...], precision: Precision) -> tuple[Array, ...]:
        """Map scores `(batch, classes)` to the outputs: what stands between the two."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...
