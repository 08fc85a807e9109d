"""The scans of scikit-learn's digits set: loaded, split, and drawn at any place and size.

1797 handwritten digits of 8×8 grey cells (Alpaydin, Kaynak, "Optical Recognition of Handwritten
Digits", UCI 1998). Ink is 1 and paper 0 here; the network and the picture files have it the
other way round, as a page looks: `to_pixels` turns it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor

from anysize.errors import NotRunError

__all__ = [
    "BACKGROUND",
    "CELLS",
    "PIXELS_PER_CELL",
    "WINDOW",
    "Pose",
    "Scans",
    "centred_pixels",
    "draw",
    "load_scans",
    "random_pose",
    "to_pixels",
    "uniform",
]

CELLS = 8
# A scan is drawn 24 pixels tall, so that the 32×32 window leaves it a margin of 4.
PIXELS_PER_CELL = 3.0
WINDOW = 32
# The eleventh class: anything that is not one whole digit in the middle of the window.
BACKGROUND = 10

_HELD_OUT_EVERY = 5


@dataclass(frozen=True, slots=True)
class Scans:
    """Some scans of the set.

    Attributes:
        ink: `(count, 8, 8)` float32 in [0, 1], paper 0.
        labels: `(count,)` int64, the digit.
        indices: `(count,)` int64, the place in the whole set.
    """

    ink: Tensor
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how scans are drawn, one entry for each.

    Attributes:
        y: `(count,)` row of the scan's centre, in pixels; 0 is the middle of the first row.
        x: `(count,)` column of the scan's centre.
        scale: `(count,)` pixels per cell of the scan.
        angle: `(count,)` rotation in radians.
    """

    y: Tensor
    x: Tensor
    scale: Tensor
    angle: Tensor


def load_scans(part: Literal["training", "held-out"]) -> Scans:
    """Load one part of the set; every fifth scan is held out of the training.

    Raises:
        NotRunError: scikit-learn, which carries the set, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as exc:
        raise NotRunError(
            'digits: the scans come with scikit-learn; pip install "anysize[train]"'
        ) from exc
    data, target = load_digits(return_X_y=True)
    indices = np.arange(len(target))
    is_held_out = indices % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    chosen = indices[is_held_out if part == "held-out" else ~is_held_out]
    ink = np.asarray(data, np.float32).reshape(-1, CELLS, CELLS)[chosen] / 16.0
    labels = np.asarray(target, np.int64)[chosen]
    return Scans(torch.from_numpy(ink), torch.from_numpy(labels), torch.from_numpy(chosen))


def draw(ink: Tensor, pose: Pose, height: int, width: int) -> Tensor:
    """Draw scans on empty paper, each on a canvas of its own.

    Args:
        ink: `(count, 8, 8)`.
        pose: Where; parts outside the canvas are cut off.
        height: Rows of the canvas.
        width: Columns of the canvas.

    Returns:
        `(count, height, width)` ink in [0, 1].
    """
    rows = torch.arange(height, dtype=torch.float32)[None, :, None] - pose.y[:, None, None]
    columns = torch.arange(width, dtype=torch.float32)[None, None, :] - pose.x[:, None, None]
    cosine = (torch.cos(pose.angle) / pose.scale)[:, None, None]
    sine = (torch.sin(pose.angle) / pose.scale)[:, None, None]
    half = CELLS / 2
    grid = torch.stack(
        [(cosine * columns + sine * rows) / half, (cosine * rows - sine * columns) / half], dim=-1
    )
    drawn = F.grid_sample(
        ink[:, None], grid, mode="bicubic", padding_mode="zeros", align_corners=False
    )
    # Eight cells enlarged are a blur; a pen leaves an edge.
    return ((drawn[:, 0] - 0.25) / 0.6).clamp(0.0, 1.0)


def to_pixels(ink: Tensor) -> Tensor:
    """Turn ink `(count, height, width)` into what the network takes.

    Returns:
        `(count, 1, height, width)` in [0, 1]: paper 1, ink 0, which is a grey picture / 255.
    """
    return (1.0 - ink).clamp(0.0, 1.0)[:, None]


def centred_pixels(scans: Scans) -> Tensor:
    """Draw each scan upright in the middle of the window, as the accuracy is measured.

    Returns:
        `(count, 1, 32, 32)` in [0, 1], paper 1.
    """
    count = len(scans.labels)
    middle = torch.full((count,), (WINDOW - 1) / 2)
    pose = Pose(middle, middle, torch.full((count,), PIXELS_PER_CELL), torch.zeros(count))
    return to_pixels(draw(scans.ink, pose, WINDOW, WINDOW))


def uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    """Draw `(count,)` numbers evenly from [low, high)."""
    return torch.rand(count, generator=generator) * (high - low) + low


def random_pose(generator: torch.Generator, y: Tensor, x: Tensor) -> Pose:
    """Draw a scale of 0.85 to 1.15 and a turn of up to 9 degrees for digits at `(y, x)`."""
    count = len(y)
    return Pose(
        y,
        x,
        PIXELS_PER_CELL * uniform(generator, count, 0.85, 1.15),
        uniform(generator, count, -math.pi / 20, math.pi / 20),
    )
