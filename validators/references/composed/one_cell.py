"""Answers for images as maps of one cell: what a rewrite makes of them at the training size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from anysize.validators.references.protocol import Precision, Reference, Rejected

__all__ = ["OneCellReference"]

Array = NDArray[np.generic]


class OneCellReference:
    """Reference whose answers get the two axes of a map where what is compared has them.

    Args:
        original: Answers for images.
        ranks: How many axes each output of what is compared has; None where that is not known.
    """

    def __init__(self, original: Reference, ranks: Sequence[int | None]) -> None:
        self.name, self.kind = original.name, original.kind
        self.output_names: tuple[str, ...] | None = None
        self._original = original
        self._ranks = tuple(ranks)

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Let the original answer."""
        answer = self._original.run(inputs, precision)
        if isinstance(answer, Rejected):
            return answer
        pairs = zip(answer, self._ranks, strict=False)
        return tuple(a[..., None, None] if rank == a.ndim + 2 else a for a, rank in pairs)

    def close(self) -> None:
        """Release the original."""
        self._original.close()
