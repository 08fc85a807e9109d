"""What a target wants done to a file, worked out before anything is touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from anysize.sizes import Size
from anysize.surgery.edit import Edits
from anysize.surgery.heads import Head
from anysize.surgery.targets.fc_to_conv import Output

__all__ = ["NotNeeded", "Output", "Plan"]


@dataclass(frozen=True, slots=True)
class NotNeeded:
    """There is nothing to rewrite; `reason` says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A rewrite, ready to be tried and applied.

    Attributes:
        normalise: Run on the model before the edits, as it was on the copy that was planned on.
        edits: What to change; node indices are those after `normalise`.
        finish: Run on the model after the edits, for example to put in a guard.
        size: The training size.
        min_size: The smallest legal image afterwards.
        max_size: The largest legal image afterwards; None where there is no bound.
        classes: Number of classes; None where no layer says.
        map_tensor: The dense map in the rewritten graph; "" where there is none.
        head: The fixed-size head that was found; None where the target needs none.
    """

    edits: Edits
    size: Size
    min_size: Size
    classes: int | None
    max_size: Size | None = None
    map_tensor: str = ""
    head: Head | None = None
    normalise: Callable[[onnx.ModelProto], object] | None = None
    finish: Callable[[onnx.ModelProto], object] | None = None
