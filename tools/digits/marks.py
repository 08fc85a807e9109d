"""What lies on paper besides digits: lines, rings, specks, shade and grain."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name that every PyTorch program gives it
from torch import Tensor

from digits.scans import uniform

__all__ = ["grain", "ring", "segment", "shade"]


def segment(ends: Tensor, thickness: Tensor, height: int, width: int) -> Tensor:
    """Draw straight pen strokes, each on a canvas of its own.

    Args:
        ends: `(count, 4)` pixels: y and x of one end, y and x of the other; may lie outside.
        thickness: `(count,)` pixels.
        height: Rows of the canvas.
        width: Columns of the canvas.

    Returns:
        `(count, height, width)` ink in [0, 1].
    """
    rows, columns = _coordinates(height, width)
    y0, x0, y1, x1 = (ends[:, i, None, None] for i in range(4))
    dy, dx = y1 - y0, x1 - x0
    along = ((rows - y0) * dy + (columns - x0) * dx) / (dy * dy + dx * dx).clamp(min=1e-6)
    along = along.clamp(0.0, 1.0)
    distance = torch.hypot(rows - y0 - along * dy, columns - x0 - along * dx)
    return (thickness[:, None, None] / 2 + 0.5 - distance).clamp(0.0, 1.0)


def ring(centre: Tensor, radius: Tensor, thickness: Tensor, height: int, width: int) -> Tensor:
    """Draw circles such as a cup leaves, each on a canvas of its own.

    Args:
        centre: `(count, 2)` y and x in pixels; may lie outside.
        radius: `(count,)` pixels.
        thickness: `(count,)` pixels.
        height: Rows of the canvas.
        width: Columns of the canvas.

    Returns:
        `(count, height, width)` ink in [0, 1].
    """
    rows, columns = _coordinates(height, width)
    from_centre = torch.hypot(rows - centre[:, 0, None, None], columns - centre[:, 1, None, None])
    distance = (from_centre - radius[:, None, None]).abs()
    return (thickness[:, None, None] / 2 + 0.5 - distance).clamp(0.0, 1.0)


def shade(generator: torch.Generator, count: int, height: int, width: int) -> Tensor:
    """Draw uneven light, smooth over 16 pixels: `(count, height, width)` from 0 to 0.12."""
    coarse = torch.rand(count, 1, height // 16 + 2, width // 16 + 2, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    return smooth[:, 0] * uniform(generator, count, 0.0, 0.12)[:, None, None]


def grain(generator: torch.Generator, count: int, height: int, width: int) -> Tensor:
    """Draw the scanner's noise, normal with a deviation of up to 0.05, `(count, height, width)`."""
    noise = torch.randn(count, height, width, generator=generator)
    return noise * uniform(generator, count, 0.0, 0.05)[:, None, None]


def _coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    rows = torch.arange(height, dtype=torch.float32)[None, :, None]
    columns = torch.arange(width, dtype=torch.float32)[None, None, :]
    return rows, columns
