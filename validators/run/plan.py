"""Which sizes and batches a file is compared at where nobody names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anysize.errors import UnsupportedModelError, UsageError
from anysize.heads import head_kind
from anysize.sizes import Size
from anysize.validators.inputs import Case, auto_sizes, plan_cases, quick_cases
from anysize.validators.run.file_under_test import FileUnderTest

__all__ = ["chosen_cases"]


def chosen_cases(
    file: FileUnderTest,
    training: Size | None,
    batches: Sequence[int] | int,
    *,
    cost: Callable[[Size], int],
    is_quick: bool,
) -> tuple[Case, ...]:
    """Plan every kind of size, at all batches, or what is worth its cost.

    Raises:
        UsageError: The training size is not known, or a batch is out of range.
    """
    if training is None:
        raise UsageError(
            f"sizes {'quick' if is_quick else 'auto'}: neither the file nor the reference says its "
            "training size; give --sizes"
        )
    legal, stride = file.declared, file.metadata.map_stride
    is_interval = head_kind(file.metadata.head).fixes_size
    folding = _folding_size(file, training)
    if is_quick:
        return quick_cases(
            training,
            batches,
            cost=cost,
            legal=legal,
            stride=stride,
            is_interval=is_interval,
            folding=folding,
        )
    sizes = auto_sizes(
        training, legal=legal, stride=stride, is_interval=is_interval, folding=folding
    )
    return plan_cases(sizes, batches)


def _folding_size(file: FileUnderTest, training: Size) -> Size | None:
    """Return the size at which the map that an FC head flattens is twice as high, if there is one.

    Heights of the interval lead to the same map, so the interval is as long as the map's stride.
    """
    from anysize.surgery import find_head, legal_interval
    from anysize.surgery.graph import Graph

    graph = Graph(file.model)
    try:
        head = find_head(graph, training)
        interval = legal_interval(graph, head.feature_map, head.image_size)
    except UnsupportedModelError:
        return None
    if interval.maximum is None:
        return None
    stride = interval.maximum.height - interval.minimum.height + 1
    return Size(training.height + stride * head.map_size.height, training.width)
