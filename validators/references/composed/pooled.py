"""What a rewrite to the head adaptive must compute: the original FC layers on the pooled map.

Pooled here by NumPy from the definition, slice by slice: bin i of n over a cells is the mean of the
cells ⌊i·a/n⌋ to ⌈(i+1)·a/n⌉ (`start_index` and `end_index` of PyTorch's
aten/src/ATen/native/AdaptivePooling.h). The graphs under test multiply with matrices instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from anysize.validators.references.protocol import (
    FcOriginal,
    Precision,
    Rejected,
    number_type,
)

__all__ = ["PooledReference", "average_to"]

Array = NDArray[np.generic]


class PooledReference:
    """Reference for a graph whose feature map is pooled to what its FC head takes.

    Args:
        original: The original in two halves.
    """

    kind = "pooled"

    def __init__(self, original: FcOriginal) -> None:
        self.name = original.name
        self.output_names: tuple[str, ...] | None = None
        self._original = original

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Compute the expected outputs; images that the features do not take are rejected."""
        (images,) = inputs.values()
        feature_map = self._original.features(images, precision)
        if isinstance(feature_map, Rejected):
            return feature_map
        pooled = average_to(feature_map, self._original.window)
        return self._original.head(pooled.astype(number_type(precision)), precision)

    def close(self) -> None:
        """Release the original."""
        self._original.close()


def average_to(feature_map: Array, size: tuple[int, int]) -> NDArray[np.float64]:
    """Average `(batch, channels, a, b)` over the bins of `(batch, channels, *size)`, in float64."""
    result = np.asarray(feature_map, np.float64)
    for axis, count in zip((2, 3), size, strict=True):
        cells = result.shape[axis]
        bins = [
            result.take(range(i * cells // count, -(-(i + 1) * cells // count)), axis)
            for i in range(count)
        ]
        result = np.concatenate([one.mean(axis, keepdims=True) for one in bins], axis)
    return result
