"""A graph with heads on several feature maps as the original: each head by its own reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anysize.validators.references.protocol import Precision, Reference, Rejected

__all__ = ["Part", "SeveralHeads"]

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Part:
    """What answers for some outputs of the original.

    Attributes:
        reference: It gives these outputs, and perhaps maps of scores behind them.
        outputs: Their names.
        maps: For each such map, the first output that is read from its scores.
    """

    reference: Reference
    outputs: tuple[str, ...]
    maps: tuple[str, ...] = ()


class SeveralHeads:
    """Reference for a graph of several parts.

    Args:
        parts: Between them they give all outputs.
        outputs: The original's outputs, in order; maps follow in that of the outputs they belong
            to.
    """

    kind = "windows"

    def __init__(self, parts: Sequence[Part], *, outputs: Sequence[str]) -> None:
        self.name = parts[0].reference.name
        self.output_names: tuple[str, ...] | None = None
        self._parts = tuple(parts)
        self._outputs = tuple(outputs)

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Compute the expected outputs; images that one part rejects are rejected."""
        answers: dict[str, Array] = {}
        maps: dict[str, Array] = {}
        for part in self._parts:
            answer = part.reference.run(inputs, precision)
            if isinstance(answer, Rejected):
                return answer
            count = len(part.outputs)
            answers.update(zip(part.outputs, answer[:count], strict=True))
            maps.update(zip(part.maps, answer[count:], strict=True))
        return (
            *(answers[name] for name in self._outputs),
            *(maps[name] for name in self._outputs if name in maps),
        )

    def close(self) -> None:
        """Release the parts."""
        for part in self._parts:
            part.reference.close()
