"""From the answers for each image to shares: right, agreeing, confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from anysize.errors import UsageError
from anysize.validators.evaluation.dataset import Dataset
from anysize.validators.evaluation.evaluation import Accuracy, Confusion
from anysize.validators.evaluation.records import NoAnswer, Record

__all__ = ["accuracy_of", "broken_images"]

_MOST_CONFUSIONS = 10


def accuracy_of(
    record: Record,
    outputs: Sequence[int],
    names: Sequence[str],
    classes: Sequence[str],
    reference: Record | None = None,
) -> Accuracy:
    """Count what a model made of the images of a dataset.

    Args:
        record: Its answers.
        outputs: For each class of the dataset, the output that stands for it.
        names: What each output is called; its number where there is none.
        classes: Names of the classes of the dataset.
        reference: The answers of another model, for the same images.

    Raises:
        UsageError: No image could be read.
    """
    place = np.asarray(outputs)
    counts: Counter[str] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    for rows, others in zip_longest(record.blocks(), reference.blocks() if reference else ()):
        is_read = rows["top"][:, 0] != NoAnswer.BROKEN
        top, right = rows["top"][is_read], place[rows["label"][is_read]]
        first = top[:, 0]
        counts["images"] += len(top)
        counts["top1"] += int((first == right).sum())
        counts["top5"] += int((top == right[:, None]).any(axis=1).sum())
        counts["refused"] += int((first == NoAnswer.REFUSED).sum())
        counts["not_finite"] += int((first == NoAnswer.NOT_FINITE).sum())
        if others is not None:
            counts["agreeing"] += int(((first == others["top"][is_read, 0]) & (first >= 0)).sum())
        wrong = (first != right) & (first >= 0)
        labels = rows["label"][is_read][wrong]
        pairs.update(zip(labels.tolist(), first[wrong].tolist(), strict=True))
    images = counts["images"]
    if not images:
        raise UsageError("no image could be read")
    return Accuracy(
        images=images,
        top1=counts["top1"] / images,
        top5=counts["top5"] / images,
        agreement=None if reference is None else counts["agreeing"] / images,
        refused=counts["refused"],
        not_finite=counts["not_finite"],
        confusions=tuple(
            Confusion(classes[label], names[taken] if taken < len(names) else str(taken), count)
            for (label, taken), count in sorted(pairs.items(), key=lambda p: (-p[1], p[0]))[
                :_MOST_CONFUSIONS
            ]
        ),
    )


def broken_images(record: Record, dataset: Dataset, most: int) -> tuple[int, tuple[str, ...]]:
    """Return how many images could not be decoded, and the names of the first `most`."""
    count, start = 0, 0
    first: list[int] = []
    for rows in record.blocks():
        (found,) = np.nonzero(rows["top"][:, 0] == NoAnswer.BROKEN)
        count += len(found)
        first += [start + int(place) for place in found[: most - len(first)]]
        start += len(rows)
    return count, dataset.names(first)
