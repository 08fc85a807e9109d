"""Seeded regions of images to validate with: every case that a pooling of regions may get wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anysize.sizes import Size

__all__ = ["make_regions"]


def make_regions(size: Size, batch: int, *, seed: int) -> NDArray[np.float32]:
    """Make regions inside the images of a batch, the same ones for the same arguments.

    Each image has its whole self, a region in the middle and one that touches a corner; among all
    of them lie a region of one pixel, one of one row and one of one column. The batch indices are
    not sorted, so that a graph that assumes an order is found.

    Returns:
        float32 `(3 · batch + 3, 5)`: batch index, x1, y1, x2, y2 in pixels, with
        0 ≤ x1 < x2 ≤ width and 0 ≤ y1 < y2 ≤ height.
    """
    entropy = (seed, size.height, size.width, batch)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
    regions = [_thin(size, generator, rows, columns) for rows, columns in ((1, 1), (1, 0), (0, 1))]
    images = [int(image) for image in generator.integers(0, batch, size=3)]
    for image in range(batch):
        regions += [_whole(size), _inner(size, generator), _corner(size, generator)]
        images += [image] * 3
    rois = np.concatenate([np.array(images)[:, None], np.array(regions)], axis=1)
    return generator.permutation(rois).astype(np.float32)


def _whole(size: Size) -> list[float]:
    return [0.0, 0.0, size.width, size.height]


def _inner(size: Size, generator: np.random.Generator) -> list[float]:
    """A region whose sides are between a fifth and all of the image's, anywhere in it."""
    x = _span(size.width, generator)
    y = _span(size.height, generator)
    return [x[0], y[0], x[1], y[1]]


def _span(side: int, generator: np.random.Generator) -> tuple[float, float]:
    length = side * generator.uniform(0.2, 1.0)
    start = generator.uniform(0.0, side - length)
    return start, start + length


def _corner(size: Size, generator: np.random.Generator) -> list[float]:
    """A region in one of the corners, a third to two thirds of the image each way."""
    width, height = (side * generator.uniform(0.33, 0.67) for side in (size.width, size.height))
    left = generator.choice([0.0, size.width - width])
    top = generator.choice([0.0, size.height - height])
    return [left, top, left + width, top + height]


def _thin(size: Size, generator: np.random.Generator, rows: int, columns: int) -> list[float]:
    """A region of that many rows and columns of pixels; 0 takes all of them."""
    left, top, right, bottom = _inner(size, generator)
    if columns:
        left = float(generator.integers(0, size.width))
        right = left + columns
    if rows:
        top = float(generator.integers(0, size.height))
        bottom = top + rows
    return [left, top, right, bottom]
