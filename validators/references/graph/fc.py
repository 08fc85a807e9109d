"""An ONNX graph with a fully connected head, in pieces, for the window proof."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anysize.errors import DeclinedError, SourceError
from anysize.sizes import Size
from anysize.validators.references.graph.model import GraphPair
from anysize.validators.references.protocol import Precision, Rejected

if TYPE_CHECKING:
    from anysize.surgery.graph import Graph, Model

__all__ = ["OnnxFc"]

Array = NDArray[np.generic]

_FIRST = "NCHW"


class OnnxFc:
    """An ONNX graph cut at the feature map that its head takes, and again before a Softmax tail.

    Args:
        graph: The original; its model is not modified.
        size: The training size; what the graph declares or records, by default.
        is_pooled: Cut before the average over the whole map, and not before a flatten. The head
            then takes 1×1 maps, which are their own average.
        keep: Nodes whose numbers are constants, as the rewrite was told.

    Raises:
        DeclinedError: The graph has no such head; the message names the node.
    """

    def __init__(
        self,
        graph: GraphPair,
        *,
        size: Size | None = None,
        is_pooled: bool = False,
        keep: Collection[str] = (),
    ) -> None:
        from anysize.surgery import (
            drop_guards,
            free_axes,
            free_baked_shapes,
            keep_outputs,
            split_at,
        )
        from anysize.surgery.graph import Graph, image_input

        model = graph.graph
        if is_pooled:  # what lays the map out as a row, before the average, takes one cell, too
            model = Graph(keep_outputs(model, [output.name for output in graph.model.graph.output]))
            free_baked_shapes(model, size)
        cut = _find_pool(model, size) if is_pooled else _find_cut(model, size)
        first, layers = split_at(model, cut.tensor, size=cut.size)
        features = Graph(first)
        drop_guards(features, "min", "max")  # those are the head's, and the features take more
        free_baked_shapes(features, cut.size or size)
        _free_numbers(features, cut.size or size, keep)
        self.name = graph.name
        self.window = cut.window
        free_axes(features)
        self._features = graph.changed(features)
        batch = image_input(graph.model).type.tensor_type.shape.dim[0].dim_value or 1
        self._scores = self._head = _Batched(graph.changed(layers), batch)
        self._tail: _Batched | None = None
        self._cut = cut
        self._outputs = tuple(output.name for output in layers.graph.output)
        if cut.scores != self._outputs:
            scores, tail = split_at(layers, *cut.scores)
            for value in (*scores.graph.output, *tail.graph.input):
                value.type.tensor_type.ClearField("shape")  # (count, classes), not a map
            self._scores = _Batched(graph.changed(scores), batch)
            if tail.graph.output:
                self._tail = _Batched(graph.changed(tail), batch)

    def features(self, images: Array, precision: Precision) -> Array | Rejected:
        """Compute the feature map of images of any size that the features take."""
        answer = self._features.run((images,), precision)
        if isinstance(answer, Rejected):
            return answer
        return answer[0].transpose([self._cut.axes.index(letter) for letter in _FIRST])

    def head(self, windows: Array, precision: Precision) -> tuple[Array, ...]:
        """Run the whole head on windows of a feature map."""
        return self._head.run(self._turned(windows), precision=precision)

    def scores(self, windows: Array, precision: Precision) -> tuple[Array, ...]:
        """Run the head on windows of a feature map, up to its Softmax, LogSoftmax or ArgMax."""
        return self._scores.run(self._turned(windows), precision=precision)

    def _turned(self, windows: Array) -> Array:
        """Let the axes of windows lie as those of the tensor that was cut."""
        return windows.transpose([_FIRST.index(letter) for letter in self._cut.axes])

    def finish(self, scores: tuple[Array, ...], precision: Precision) -> tuple[Array, ...]:
        """Run what comes after `scores` on `(batch, classes)` each."""
        named = dict(zip(self._cut.scores, scores, strict=True))
        if self._tail is not None:
            after = self._tail.run(*scores, precision=precision)
            behind = (name for name in self._outputs if name not in named)
            named |= dict(zip(behind, after, strict=True))
        return tuple(named[name] for name in self._outputs)

    def close(self) -> None:
        """Release the sessions."""
        self._features.close()
        for part in (self._head, self._scores, self._tail):
            if part is not None:
                part.close()


def _free_numbers(features: Graph, size: Size | None, keep: Collection[str]) -> None:
    """Let what the features divide by follow the image, as the rewrite does."""
    from anysize.surgery import IllegalSizeError, free_numbers, legal_sizes

    if size is None:
        return
    try:
        sizes = legal_sizes(features, size, least=size)
    except (DeclinedError, IllegalSizeError):  # for the comparison to find
        return
    free_numbers(features, size, sizes, keep=keep, declines=False)


class _Batched:
    """A part of a head that takes many items, or as many at a time as it insists on.

    Args:
        pair: The part.
        batch: How many it takes where it does not take all, by Reshape([1, K]) or of 10 images.
    """

    def __init__(self, pair: GraphPair, batch: int = 1) -> None:
        self._pair = pair
        self._batch = batch
        self._takes_all = True

    def run(self, *items: Array, precision: Precision) -> tuple[Array, ...]:
        if self._takes_all:
            answer = self._pair.run(items, precision)
            if not isinstance(answer, Rejected) and all(len(a) == len(items[0]) for a in answer):
                return answer
            self._takes_all = False
        parts: list[tuple[Array, ...]] = []
        count = len(items[0])
        for start in range(0, count, self._batch):
            places = np.minimum(np.arange(start, start + self._batch), count - 1)
            answer = self._pair.run(tuple(one[places] for one in items), precision)
            if isinstance(answer, Rejected):
                raise SourceError(
                    f"reference {self._pair.name}: its head rejects a window of "
                    f"{list(items[0].shape[1:])}: {answer.reason}"
                )
            parts.append(answer)
        return tuple(np.concatenate(arrays)[:count] for arrays in zip(*parts, strict=True))

    def close(self) -> None:
        self._pair.close()


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where a graph is cut: its feature map, or what its head makes of each cell of that.

    Attributes:
        tensor: The tensor.
        window: Height and width of what one answer takes.
        size: The training size.
        scores: What a Softmax tail reads.
        axes: What lies on the tensor's axes.
    """

    tensor: str
    window: tuple[int, int]
    size: Size | None
    scores: tuple[str, ...]
    axes: Sequence[str] = _FIRST


def _find_cut(model: Model, size: Size | None) -> _Cut:
    """Find the FC head, or, in a graph that averages its map, the linear layer on every cell.

    The average of one cell is the cell, so a head that pools globally is its own FC layer on
    windows of 1×1.
    """
    from anysize.surgery import AnySizeAlreadyError, find_pooled_head
    from anysize.surgery.heads import find_kept_head

    try:
        head = find_kept_head(model, size)
    except AnySizeAlreadyError as error:
        try:
            pooled = find_pooled_head(model, size)
        except DeclinedError:
            raise error from None
        return _Cut(pooled.feature_map, (1, 1), size, (pooled.scores,))
    return _Cut(
        head.flattened,
        (head.map_size.height, head.map_size.width),
        head.image_size,
        tuple(dict.fromkeys(head.scores)),
        head.flattened_axes,
    )


def _find_pool(graph: Graph, size: Size | None) -> _Cut:
    """Find the average over the whole map; it is one of windows of 1×1 on which nothing slides."""
    from anysize.surgery import find_pooled_head

    pooled = find_pooled_head(graph, size)
    return _Cut(pooled.feature_map, (1, 1), size, (pooled.scores,))
