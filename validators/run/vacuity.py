"""Whether the reference depends on its input: agreement with one that does not proves nothing.

A floating-point output has to vary from one seed to another. A whole number, such as a label, has
to be different for two of the images that are really compared: a graph that hands out the one that
all of them have would be right otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from anysize.validators.judging import STRICTEST_LIMIT, fill_values, variation
from anysize.validators.references import Reference, Rejected

__all__ = ["OTHER_SEEDS", "WholeNumbers", "vary"]

Array = NDArray[np.generic]

# Added to a seed to try others where one does not show a change; odd numbers are for amplified
# images.
OTHER_SEEDS = range(0, 16, 2)

# A change by so much of the largest value needs no other images; and one by so much none beside
# them: what a cell needs grows with the reference's own error, which is not known yet.
_PLAIN_TO_SEE, _ENOUGH = 0.05, 4 * STRICTEST_LIMIT


def _variations(
    answer: tuple[Array, ...],
    other: tuple[Array, ...] | Rejected,
    precise: tuple[Array, ...] | None = None,
    *,
    whole: float | None = None,
) -> tuple[float, ...]:
    """Measure for each output of the reference how much it varies from one seed to another.

    Args:
        answer: In float32.
        other: For another seed.
        precise: The arbiter's `answer`.
        whole: What counts as the variation of whole numbers; None to measure it, too.
    """
    if isinstance(other, Rejected) or len(other) != len(answer):
        return tuple(np.inf for _ in answer)  # what it answers depends on more than the size
    fills = map(fill_values, answer, precise or [None] * len(answer))
    return tuple(
        whole if whole is not None and _is_whole(one) else variation(one, another, mask)
        for one, another, mask in zip(answer, other, fills, strict=True)
    )


def vary(
    reference: Reference,
    answer: tuple[Array, ...],
    precise: tuple[Array, ...] | None,
    inputs_of: Callable[[int], Mapping[str, Array]],
    *,
    batch: int,
    seed: int,
    whole: float | None,
    single: tuple[Array, ...] = (),
) -> tuple[float, ...]:
    """Measure how much each output varies, over more images where one does not show a change.

    The probabilities of a trained network are often the same for two images. The next image of a
    batch is another one, too, and so is a single one that has been answered: they cost no run.
    """
    largest = tuple(0.0 for _ in answer)

    def show(other: tuple[Array, ...] | Rejected) -> None:
        nonlocal largest
        found = _variations(answer, other, precise, whole=whole)
        largest = tuple(max(pair) for pair in zip(largest, found, strict=True))

    if batch > 1 and all(one.ndim and len(one) == batch for one in answer):
        show(tuple(np.roll(one, 1, axis=0) for one in answer))
        if [one.shape for one in single] == [(1, *one.shape[1:]) for one in answer]:
            show(single)
    for shift in OTHER_SEEDS:
        if min(largest, default=np.inf) > (_ENOUGH if shift else _PLAIN_TO_SEE):
            break
        show(reference.run(inputs_of(seed + shift), "float32"))
    return largest


class WholeNumbers:
    """The outputs of whole numbers that every image so far has the same value of."""

    def __init__(self) -> None:
        self._first: dict[int, Array] = {}
        self._varied: set[int] = set()

    def add(self, answer: Sequence[Array]) -> None:
        """Take note of what is expected for one case, `(batch, ...)`."""
        for place, output in enumerate(answer):
            if not _is_whole(output) or not output.size:
                continue
            first = self._first.setdefault(place, output[:1].copy())
            if not _is_same(output, first):
                self._varied.add(place)

    def settles(self, answer: Sequence[Array]) -> bool:
        """Say whether this answer is another one for all outputs that have not varied so far."""
        return not any(_is_same(answer[place], self._first[place]) for place in self.constant)

    @property
    def constant(self) -> tuple[int, ...]:
        """Places of the outputs that have not varied."""
        return tuple(place for place in self._first if place not in self._varied)


def _is_whole(output: Array) -> bool:
    return not np.issubdtype(output.dtype, np.floating)


def _is_same(output: Array, first: Array) -> bool:
    """Whether each image has the answer of the first one, or the same number at every place."""
    if output.shape[1:] == first.shape[1:]:
        return bool(np.all(output == first))
    return bool(np.all(output == first.flat[0])) and bool(np.all(first == first.flat[0]))
