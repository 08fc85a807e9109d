"""From a dense class map to the digits on a page: peaks of the foreground, one per digit.

Plain numpy, so that any runtime's output can be read with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anysize.errors import UsageError

__all__ = ["DIGIT_OFFSET", "DIGIT_STRIDE", "Detection", "detect"]

# Geometry of the digits network's map, see anysize.models.backbones.digits.
DIGIT_STRIDE = (4.0, 4.0)
DIGIT_OFFSET = (15.5, 15.5)

# A digit of 24 pixels lights a patch of about three cells; two of them never stand closer.
_REACH_PIXELS = 18.0


@dataclass(frozen=True, slots=True)
class Detection:
    """One digit found.

    Attributes:
        label: The class.
        y: Row of its centre in pixels of the image.
        x: Column of its centre.
        score: Probability of the class at the strongest cell, 0 to 1.
    """

    label: int
    y: float
    x: float
    score: float


def detect(
    map_logits: npt.ArrayLike,
    stride: tuple[float, float] = DIGIT_STRIDE,
    offset: tuple[float, float] = DIGIT_OFFSET,
    *,
    background: int = 10,
    threshold: float = 0.5,
) -> tuple[Detection, ...]:
    """Find the peaks of a class map.

    The probabilities of all classes but the background are softened over 3×3 cells; the
    strongest cell becomes a detection, cells within 18 pixels of it are taken away, and so on
    down to `threshold`. The place is the mean of the cells around the peak, weighted by their
    foreground probability.

    Args:
        map_logits: `(classes, map_height, map_width)`, before the softmax.
        stride: Pixels between two cells, rows first.
        offset: Centre of cell (0, 0) in pixels, rows first.
        background: The class that is not reported.
        threshold: Least softened foreground probability, 0 to 1.

    Returns:
        The detections from top to bottom, then from left to right.

    Raises:
        UsageError: The map has another rank, or no class of number `background`.
    """
    logits = np.asarray(map_logits, np.float64)
    if logits.ndim != 3:
        raise UsageError(f"class map: got shape {logits.shape}, expected (classes, height, width)")
    if not 0 <= background < len(logits):
        raise UsageError(f"class map: background {background}, expected 0 to {len(logits) - 1}")
    exponentials = np.exp(logits - logits.max(axis=0))
    probabilities = exponentials / exponentials.sum(axis=0)
    foreground = 1.0 - probabilities[background]
    rows = offset[0] + stride[0] * np.arange(foreground.shape[0])[:, None]
    columns = offset[1] + stride[1] * np.arange(foreground.shape[1])[None, :]
    remaining = _soften(foreground)
    found = []
    while remaining.max() >= threshold:
        row, column = np.unravel_index(int(remaining.argmax()), remaining.shape)
        reach = np.hypot(rows - rows[row, 0], columns - columns[0, column]) <= _REACH_PIXELS
        near = reach & (
            np.maximum(
                abs(rows - rows[row, 0]) / stride[0], abs(columns - columns[0, column]) / stride[1]
            )
            <= 2.5
        )
        weight = foreground * near
        evidence = (probabilities * near).sum(axis=(1, 2))
        evidence[background] = -1.0
        label = int(evidence.argmax())
        found.append(
            Detection(
                label=label,
                y=float((weight * rows).sum() / weight.sum()),
                x=float((weight * columns).sum() / weight.sum()),
                score=float((probabilities[label] * near).max()),
            )
        )
        remaining[reach] = -1.0
    return tuple(sorted(found, key=lambda one: (one.y, one.x)))


def _soften(foreground: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weighted mean over 3×3 cells, the middle counting as much as the eight others together.

    A single cell that fires alone stays at a half; outside the map counts as background.
    """
    padded = np.pad(foreground, 1)
    height, width = foreground.shape
    total = np.zeros_like(foreground)
    for dy in range(3):
        for dx in range(3):
            weight = 8.0 if (dy, dx) == (1, 1) else 1.0
            total += weight * padded[dy : dy + height, dx : dx + width]
    return total / 16.0
