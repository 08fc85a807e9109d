"""What a fully convolutional rewrite must compute: the original FC layers on every window.

The expected map is not a convolution computed once more. Its cell (i, j) is the original head,
run by PyTorch or ONNX Runtime as it stands, on rows i … i+h−1 and columns j … j+w−1 of the
original's own feature map (Long, Shelhamer, Darrell, CVPR 2015).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from anysize.validators.references.protocol import FcOriginal, Precision, Rejected

if TYPE_CHECKING:
    from anysize.surgery.targets import Output

__all__ = ["WindowsReference", "expected_maps"]

Array = NDArray[np.generic]

# Windows overlap, so a copy of them all may be 49 times the feature map; this bounds the copy.
_CHUNK_BYTES = 128 << 20


class WindowsReference:
    """Reference for a fully convolutional graph, made from its fixed-size original.

    Args:
        original: The original in two halves.
        layout: What the graph under test hands out (`anysize rewrite --output`): the whole head's
            map; the average of the scores over all cells, with what the head has after its scores
            (a Softmax) applied to the average; or that average and then the map of the scores.
    """

    kind = "windows"

    def __init__(self, original: FcOriginal, *, layout: Output = "map") -> None:
        self.name = original.name
        self.output_names: tuple[str, ...] | None = None
        self._original = original
        self._layout = layout

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Compute the expected outputs; images whose feature map holds no window are rejected."""
        (images,) = inputs.values()
        if self._layout == "map":
            return expected_maps(self._original, images, precision)
        scores = expected_maps(self._original, images, precision, scores=True)
        if isinstance(scores, Rejected):
            return scores
        averages = tuple(one.mean(axis=(-2, -1)) for one in scores)
        logits = self._original.finish(averages, precision)
        return logits if self._layout == "logits" else (*logits, *scores)

    def close(self) -> None:
        """Release the original."""
        self._original.close()


def expected_maps(
    original: FcOriginal, images: Array, precision: Precision, *, scores: bool = False
) -> tuple[Array, ...] | Rejected:
    """Run the original head on every window of the feature map of `images`.

    Args:
        original: The original in two halves.
        images: `(batch, channels, height, width)`.
        precision: What features and head compute in.
        scores: Stop before the head's Softmax, LogSoftmax or ArgMax.

    Returns:
        For each output `(count, classes)` of the head a map `(batch, classes, map_height,
        map_width)`, or `Rejected` where the features reject the images or hold no window.
    """
    feature_map = original.features(images, precision)
    if isinstance(feature_map, Rejected):
        return feature_map
    height, width = original.window
    rows, columns = feature_map.shape[2] - height + 1, feature_map.shape[3] - width + 1
    if rows < 1 or columns < 1:
        return Rejected(
            f"the feature map is {feature_map.shape[2]}x{feature_map.shape[3]}, smaller than the "
            f"{height}x{width} that the head takes"
        )
    answer = original.scores if scores else original.head
    parts = [answer(chunk, precision) for chunk in _windows(feature_map, height, width)]
    batch = len(feature_map)
    maps = []
    for pieces in zip(*parts, strict=True):
        answers = np.concatenate(pieces)
        grid = answers.reshape(batch, rows, columns, *answers.shape[1:])
        maps.append(np.ascontiguousarray(np.moveaxis(grid, (1, 2), (-2, -1))))
    return tuple(maps)


def _windows(feature_map: Array, height: int, width: int) -> Iterator[Array]:
    """Yield all windows `(count, C, height, width)`, by batch item, row and column, in chunks."""
    view = sliding_window_view(feature_map, (height, width), axis=(2, 3))
    by_place = view.transpose(0, 2, 3, 1, 4, 5)
    batch, rows, columns, channels = by_place.shape[:4]
    row_bytes = columns * channels * height * width * feature_map.itemsize
    step = max(1, _CHUNK_BYTES // row_bytes)
    for item in range(batch):
        for start in range(0, rows, step):
            chunk = by_place[item, start : start + step]
            yield np.ascontiguousarray(chunk).reshape(-1, channels, height, width)
