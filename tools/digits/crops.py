"""Training windows: digits that stand nearly in the middle, and everything that is not one.

A dense map looks at every place of a page, so most of what it sees is background: empty paper,
strokes, the edge of a digit, the gap between two. Those are the eleventh class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from digits.marks import grain, ring, segment, shade
from digits.scans import (
    BACKGROUND,
    WINDOW,
    Scans,
    draw,
    random_pose,
    to_pixels,
    uniform,
)

__all__ = ["Crops", "draw_crops"]

_MIDDLE = (WINDOW - 1) / 2
# The dense map looks every 4 pixels, so a digit is never further than 2 from some window.
_NEAR = 2.75
# From here on a digit is off the middle; between the two nothing is asked of the network.
_OFF, _FAR = 8.0, 21.0
# A neighbour this far away leaves the digit in the middle whole.
_NEIGHBOUR = (25.0, 34.0)
# Windows in each kind, of 100: whole digits; digits off the middle; gaps between two; strokes;
# the rest is empty paper.
_WHOLE, _SHIFTED, _BETWEEN, _STROKES = 55, 18, 10, 11


@dataclass(frozen=True, slots=True)
class Crops:
    """A batch of training windows.

    Attributes:
        pixels: `(count, 1, 32, 32)` in [0, 1], paper 1.
        labels: `(count,)` int64: the digit, or `BACKGROUND`.
    """

    pixels: Tensor
    labels: Tensor


def draw_crops(scans: Scans, count: int, generator: torch.Generator) -> Crops:
    """Draw `count` training windows from `scans`; equal generators draw equal windows."""
    whole, shifted, between, strokes = (
        count * share // 100 for share in (_WHOLE, _SHIFTED, _BETWEEN, _STROKES)
    )
    digits, labels = _whole_digits(scans, whole, generator)
    ink = torch.cat(
        [
            digits,
            _shifted_digits(scans, shifted, generator),
            _gaps(scans, between, generator),
            _strokes(strokes, generator, strongest=0.95),
            torch.zeros(count - whole - shifted - between - strokes, WINDOW, WINDOW),
        ]
    )
    labels = torch.cat([labels, torch.full((count - whole,), BACKGROUND)])
    # Faint lines run behind digits too, and paper is never white throughout.
    faint = _strokes(count, generator, strongest=0.35)
    faint = faint * (uniform(generator, count, 0.0, 1.0) < 0.3)[:, None, None]
    ink = torch.maximum(ink, faint)
    ink = ink + shade(generator, count, WINDOW, WINDOW) + grain(generator, count, WINDOW, WINDOW)
    return Crops(to_pixels(ink), labels)


def _pick(scans: Scans, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    chosen = torch.randint(len(scans.labels), (count,), generator=generator)
    return scans.ink[chosen], scans.labels[chosen]


def _at(scans: Scans, y: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    ink, _ = _pick(scans, len(y), generator)
    strength = uniform(generator, len(y), 0.6, 1.0)[:, None, None]
    return strength * draw(ink, random_pose(generator, y, x), WINDOW, WINDOW)


def _whole_digits(scans: Scans, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    ink, labels = _pick(scans, count, generator)
    y = _MIDDLE + uniform(generator, count, -_NEAR, _NEAR)
    x = _MIDDLE + uniform(generator, count, -_NEAR, _NEAR)
    strength = uniform(generator, count, 0.6, 1.0)[:, None, None]
    digits = strength * draw(ink, random_pose(generator, y, x), WINDOW, WINDOW)
    away = uniform(generator, count, *_NEIGHBOUR)
    dy, dx = _direction(count, generator)
    neighbours = _at(scans, y + away * dy, x + away * dx, generator)
    has_neighbour = (uniform(generator, count, 0.0, 1.0) < 0.4)[:, None, None]
    return torch.maximum(digits, neighbours * has_neighbour), labels


def _shifted_digits(scans: Scans, count: int, generator: torch.Generator) -> Tensor:
    """Digits off the middle by 8 pixels or more along one axis, so that part of them is cut."""
    off = uniform(generator, count, _OFF, _FAR) * _sign(count, generator)
    other = uniform(generator, count, -_FAR, _FAR)
    is_vertical = uniform(generator, count, 0.0, 1.0) < 0.5
    y = _MIDDLE + torch.where(is_vertical, off, other)
    x = _MIDDLE + torch.where(is_vertical, other, off)
    return _at(scans, y, x, generator)


def _gaps(scans: Scans, count: int, generator: torch.Generator) -> Tensor:
    """The middle between two digits on opposite sides."""
    dy, dx = _direction(count, generator)
    first = uniform(generator, count, 12.0, 19.0)
    second = uniform(generator, count, 12.0, 19.0)
    one = _at(scans, _MIDDLE + first * dy, _MIDDLE + first * dx, generator)
    two = _at(scans, _MIDDLE - second * dy, _MIDDLE - second * dx, generator)
    return torch.maximum(one, two)


def _strokes(count: int, generator: torch.Generator, *, strongest: float) -> Tensor:
    """A long line, a wide arc or a speck, none of which is as tall as a digit and as thick."""
    middle = uniform(generator, 2 * count, -4.0, WINDOW + 4.0).reshape(count, 2)
    dy, dx = _direction(count, generator)
    is_speck = uniform(generator, count, 0.0, 1.0) < 0.3
    length = torch.where(
        is_speck, uniform(generator, count, 0.0, 4.0), uniform(generator, count, 30.0, 60.0)
    )
    reach = torch.stack([dy * length, dx * length], 1)
    thickness = uniform(generator, count, 0.8, 2.5)
    lines = segment(torch.cat([middle - reach, middle + reach], 1), thickness, WINDOW, WINDOW)
    radius = uniform(generator, count, 25.0, 60.0)
    centre = middle + radius[:, None] * torch.stack([dy, dx], 1)
    arcs = ring(centre, radius, uniform(generator, count, 1.0, 5.0), WINDOW, WINDOW)
    is_arc = (uniform(generator, count, 0.0, 1.0) < 0.3)[:, None, None]
    strength = uniform(generator, count, 0.1, strongest)[:, None, None]
    return strength * torch.where(is_arc, arcs, lines)


def _direction(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    angle = uniform(generator, count, 0.0, 2 * math.pi)
    return torch.sin(angle), torch.cos(angle)


def _sign(count: int, generator: torch.Generator) -> Tensor:
    return (uniform(generator, count, 0.0, 1.0) < 0.5).float() * 2 - 1
