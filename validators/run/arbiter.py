"""The reference in float64, which both float32 answers are measured against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from anysize.errors import SourceError
from anysize.validators.judging import PROFILES, float_deviation
from anysize.validators.references import Reference, Rejected
from anysize.words import WITHOUT_ARBITER

__all__ = ["arbitrate", "refuse_random"]

Array = NDArray[np.generic]


def arbitrate(
    reference: Reference, inputs: Mapping[str, Array], float32: tuple[Array, ...]
) -> tuple[Array, ...]:
    """Ask the reference for its outputs in float64.

    Args:
        reference: The original.
        inputs: By the names of the graph's inputs.
        float32: What it answers in float32.

    Raises:
        SourceError: In float64 it rejects them, or has other shapes, or no numbers.
    """
    answer = reference.run(inputs, "float64")
    if isinstance(answer, Rejected):
        raise SourceError(
            f"reference {reference.name}: runs in float32 but not in float64 ({answer.reason})"
            f"{WITHOUT_ARBITER}"
        )
    shapes = ([a.shape for a in float32], [a.shape for a in answer])
    if shapes[0] != shapes[1]:
        raise SourceError(
            f"reference {reference.name}: has outputs {shapes[0]} in float32 and {shapes[1]} in "
            f"float64{WITHOUT_ARBITER}"
        )
    for one, precise in zip(float32, answer, strict=True):
        if np.any(np.isfinite(one) & ~np.isfinite(precise)):
            raise SourceError(
                f"reference {reference.name}: answers with numbers in float32 where it has NaN or "
                f"Inf in float64{WITHOUT_ARBITER}"
            )
    return answer


def refuse_random(
    reference: Reference, inputs: Mapping[str, Array], answer: tuple[Array, ...]
) -> None:
    """Ask once more: nothing can be compared with a reference that answers by chance.

    Raises:
        SourceError: It answers differently.
    """
    again = reference.run(inputs, "float32")
    same = not isinstance(again, Rejected) and len(again) == len(answer)
    if same and not isinstance(again, Rejected):
        same = all(map(_is_repeated, answer, again))
    if not same:
        raise SourceError(
            f"reference {reference.name}: answers differently to the same images; look for dropout "
            "or noise that does not heed .eval()"
        )


def _is_repeated(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return False
    if not np.issubdtype(first.dtype, np.floating):
        return bool(np.array_equal(first, second))
    return float_deviation(second, first, None, profile=PROFILES["strict"]).is_within
