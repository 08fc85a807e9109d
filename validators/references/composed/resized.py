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
# Far more than an image of a million cells tells apart, far less than float64 gets wrong.
_DIGITS = 9


class ResizedReference:
    """Reference for a graph that resizes its image to the training size.

    Args:
        original: The whole original.
        size: The training size.
        axes: Where the image has its height and its width.
    """

    kind = "resized"

    def __init__(self, original: Reference, size: Size, *, axes: tuple[int, int] = (2, 3)) -> None:
        self.name = original.name
        self._original = original
        self._size = size
        self._axes = axes

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """The original's."""
        return self._original.output_names

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Compute the original's outputs for the resized images."""
        ((name, images),) = inputs.items()
        resized = interpolate_to(images, self._size, axes=self._axes)
        is_whole = np.issubdtype(images.dtype, np.integer)
        given = (
            _rounded(resized, images.dtype) if is_whole else resized.astype(number_type(precision))
        )
        return self._original.run({name: given}, precision)

    def close(self) -> None:
        """Release the original."""
        self._original.close()


def _rounded(images: NDArray[np.float64], dtype: np.dtype[np.generic]) -> Array:
    """Round to whole numbers, half upwards; what is a half but for its rounding error is one."""
    return np.floor(np.round(images, _DIGITS) + 0.5).astype(dtype)


def interpolate_to(
    images: Array, size: Size, *, axes: tuple[int, int] = (2, 3)
) -> NDArray[np.float64]:
    """Resize `(batch, channels, a, b)`, or what has a and b in other axes, to `size`."""
    result = np.asarray(images, np.float64)
    for axis, count in zip(axes, (size.height, size.width), strict=True):
        cells = result.shape[axis]
        place = np.maximum((np.arange(count) + 0.5) * cells / count - 0.5, 0)
        first = np.minimum(np.floor(place).astype(np.int64), cells - 1)
        weight = (place - first).reshape(-1, *([1] * (result.ndim - 1 - axis)))
        below = result.take(first, axis)
        above = result.take(np.minimum(first + 1, cells - 1), axis)
        result = below + (above - below) * weight
    return result
