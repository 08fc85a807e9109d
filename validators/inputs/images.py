"""Seeded images to validate with: structured, so that a wrong graph cannot hide.

White noise is a poor judge: every bin of a pooling pyramid has the same statistics, so shifted
bins, swapped axes or a repeated batch item barely move an average. These images have smooth waves
with a direction, a contrast of their own in each quadrant, and a little noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anysize.sizes import Size

__all__ = ["AMPLIFICATION", "as_pixels", "make_images", "tinted", "within"]

# Of an amplified case: activations pass the limits that wrong graphs put on them (6 in ReLU6), and
# half of float32's range is still far.
AMPLIFICATION = 8.0

# Most values lie between them.
_DARKEST, _LIGHTEST = -3.0, 3.0
# A byte of 0 to 255 for values of −3 to 3.
_BYTES_PER_UNIT, _MIDDLE_BYTE = 42.5, 127.5

_WAVES = 3
_NOISE = 0.25
# Contrast and brightness of the quadrants: top left, top right, bottom left, bottom right. They
# are far apart, so that a flip or a transposition changes every pooled value.
_CONTRAST = (0.4, 1.0, 1.6, 0.7)
_BRIGHTNESS = (-0.6, 0.5, 0.1, 0.9)


def make_images(size: Size, batch: int, *, channels: int, seed: int) -> NDArray[np.float32]:
    """Make `batch` different images, the same ones for the same arguments on every machine.

    Each image comes from a generator of its own, PCG64 seeded by (seed, height, width, batch,
    index), so that no two cells of a matrix share an image.

    Returns:
        float32 images `(batch, channels, height, width)`, values mostly within ±3.
    """
    images = [_image(size, batch, index, channels, seed) for index in range(batch)]
    return np.stack(images).astype(np.float32)


def as_pixels(images: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    """Convert images to the type that a graph takes; bytes are darkest at −3, lightest at 3."""
    if dtype != "uint8":
        return images.astype(np.dtype(dtype))
    pixels = np.clip(np.rint(images * _BYTES_PER_UNIT + _MIDDLE_BYTE), 0, 255)
    return np.asarray(pixels, np.uint8)


def within(images: NDArray[np.float32], least: float, largest: float) -> NDArray[np.float32]:
    """Scale images to a range of pixels; what is darker than −3 or lighter than 3 gets an end."""
    parts = np.clip((images - _DARKEST) / (_LIGHTEST - _DARKEST), 0.0, 1.0)
    return np.asarray(least + parts * (largest - least), np.float32)


def tinted(images: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Scale each channel of images by a factor of its own, from −1 to 1: they look very different.

    Noise of one kind often gets one label; a negative, or an image of one colour, gets others.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    factors = generator.uniform(-1.0, 1.0, (images.shape[1], 1, 1))
    return images * factors.astype(np.float32)


def _image(size: Size, batch: int, index: int, channels: int, seed: int) -> NDArray[np.float64]:
    entropy = (seed, size.height, size.width, batch, index)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
    # Cell centres in 0..1, so that the waves keep their look at every size.
    rows = ((np.arange(size.height) + 0.5) / size.height)[:, None]
    columns = ((np.arange(size.width) + 0.5) / size.width)[None, :]
    image = np.zeros((channels, size.height, size.width))
    for channel in range(channels):
        for _ in range(_WAVES):
            cycles_down, cycles_across = generator.uniform(-4.0, 4.0, size=2)
            phase = generator.uniform(0.0, 1.0)
            # sin(a + b) of a row and a column, without a sine for every pixel.
            down, across = (
                2 * np.pi * (cycles_down * rows + phase),
                2 * np.pi * cycles_across * columns,
            )
            wave = np.sin(down) * np.cos(across) + np.cos(down) * np.sin(across)
            image[channel] += generator.uniform(0.3, 0.8) * wave
    # Each image also differs from the next one as a whole, by brightness and by contrast.
    contrast = np.asarray(_CONTRAST) * generator.uniform(0.6, 1.4)
    brightness = np.asarray(_BRIGHTNESS) + generator.uniform(-0.5, 0.5)
    quadrant = 2 * (rows >= 0.5).astype(np.int64) + (columns >= 0.5).astype(np.int64)
    image = image * contrast[quadrant] + brightness[quadrant]
    image += _NOISE * generator.standard_normal(image.shape)
    return image
