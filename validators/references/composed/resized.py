"""What a rewrite to the head resize must compute: the whole original on the resized image.

Resized here by NumPy in float64 from the definition: with half-pixel centres, output cell i of n
over a pixels samples at max((i + ½)·a/n − ½, 0) and weighs its two neighbours linearly (the
coordinate_transformation_mode `half_pixel` of ONNX's Resize, PyTorch's align_corners=False). The
graphs under test use integer fractions instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from anysize.sizes import Size
from anysize.validators.references.protocol import (
    Precision,
    Reference,
    Rejected,
    number_type,
)

__all__ = ["ResizedReference", "interpolate_to"]

Array = NDArray[np.generic]


class ResizedReference:
    """Reference for a graph that resizes its image to the training size.

    Args:
        original: The whole original.
        size: The training size.
    """

    kind = "resized"

    def __init__(self, original: Reference, size: Size) -> None:
        self.name = original.name
        self._original = original
        self._size = size

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """The original's."""
        return self._original.output_names

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Compute the original's outputs for the resized images."""
        ((name, images),) = inputs.items()
        resized = interpolate_to(images, self._size)
        return self._original.run({name: resized.astype(number_type(precision))}, precision)

    def close(self) -> None:
        """Release the original."""
        self._original.close()


def interpolate_to(images: Array, size: Size) -> NDArray[np.float64]:
    """Resize `(batch, channels, a, b)` to `(batch, channels, size.height, size.width)`."""
    result = np.asarray(images, np.float64)
    for axis, count in zip((2, 3), (size.height, size.width), strict=True):
        cells = result.shape[axis]
        place = np.maximum((np.arange(count) + 0.5) * cells / count - 0.5, 0)
        first = np.minimum(np.floor(place).astype(np.int64), cells - 1)
        weight = (place - first).reshape((-1, 1) if axis == 2 else (-1,))
        below = result.take(first, axis)
        above = result.take(np.minimum(first + 1, cells - 1), axis)
        result = below + (above - below) * weight
    return result
