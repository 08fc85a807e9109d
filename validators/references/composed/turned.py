"""An original whose images have their axes in another order than those of the graph under test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anysize.validators.references.protocol import Precision, Reference, Rejected

if TYPE_CHECKING:
    from anysize.surgery.graph import ImageLayout

__all__ = ["TurnedReference"]

Array = NDArray[np.generic]
_IMAGE_RANK = 4


class TurnedReference:
    """Reference that turns the images before it asks the original.

    Args:
        original: The original.
        given: Where the axes of the images lie that come.
        own: Where the original has them.
    """

    def __init__(self, original: Reference, given: ImageLayout, own: ImageLayout) -> None:
        self.name = original.name
        self.kind = original.kind
        self._original = original
        self._given = given
        self._own = own

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """The original's."""
        return self._original.output_names

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Compute the original's outputs for the turned images."""
        turned = {
            name: self._own.arranged(self._given.channels_first(array))
            if array.ndim == _IMAGE_RANK
            else array
            for name, array in inputs.items()
        }
        return self._original.run(turned, precision)

    def close(self) -> None:
        """Release the original."""
        self._original.close()
