"""Which axes of the image input are batch, channels, height and width.

A declared shape does not tell: 24 × 3 may be a narrow image, or columns and colours. What the first
sliding window does with the axes tells: it slides over height and width and sums over channels. So
the input's four axes are followed to there, over whatever an exporter puts before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from anysize.errors import DeclinedError
from anysize.sizes import MAX_SIDE, Size
from anysize.surgery.graph.axis_moves import Axes, follow_axes
from anysize.surgery.graph.functions import inlined
from anysize.surgery.graph.graph import Graph, Model
from anysize.surgery.graph.inputs import image_input

__all__ = [
    "ImageLayout",
    "image_layout",
    "is_turned_image",
    "require_sides_together",
    "static_size",
]

_Number = TypeVar("_Number", bound=np.generic)

# They slide over all axes but the first two, or summarise these.
_WINDOWS = frozenset(
    {
        *("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "FusedConv", "LpPool", "MaxPool"),
        *("QLinearAveragePool", "QLinearConv", "QLinearGlobalAveragePool"),
        *("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"),
        *("DepthToSpace", "MaxRoiPool", "RoiAlign", "SpaceToDepth"),
    }
)
# They have a number for each place along axis 1. Weaker evidence: networks on sound normalise the
# pitches, the image's height, before they turn the image back and slide over it.
_NORMS = frozenset(
    {"BatchNormalization", "GroupNormalization", "InstanceNormalization", "LRN"},
)
_IMAGE = (0, 1, 2, 3)
_COLOURS = (1, 3, 4)
# Sides that no image has as few of as colours; only asked where no node tells.
_LEAST_SIDE = 8


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """The axes of an image input.

    A network may read the rows of an image as columns; height is the first of the two all the same.

    Attributes:
        batch: The axis of the images.
        channels: The axis of the channels: 1, or 3 where they come last.
        height: The axis of the rows.
        width: The axis of the columns.
        witness: The node that tells; None where none does.
    """

    batch: int = 0
    channels: int = 1
    height: int = 2
    width: int = 3
    witness: int | None = None

    @property
    def is_channels_first(self) -> bool:
        """Whether the image is `(batch, channels, height, width)`."""
        return self.channels == 1

    @property
    def has_sides_together(self) -> bool:
        """Whether width follows height, which is all that can be worked with."""
        return self.width == self.height + 1

    @property
    def words(self) -> str:
        """Say the order in words: `channels first`, `channels last` or `channels in axis 2`."""
        named = {1: "channels first", 3: "channels last"}
        return named.get(self.channels, f"channels in axis {self.channels}")

    @property
    def sides(self) -> tuple[int, int]:
        """The axes of height and width."""
        return self.height, self.width

    def size(self, shape: Sequence[int]) -> Size:
        """Return the size of images of a shape."""
        return Size(shape[self.height], shape[self.width])

    def arranged(self, images: NDArray[_Number]) -> NDArray[_Number]:
        """Turn images `(batch, channels, height, width)` so that their axes lie as here."""
        turned = np.moveaxis(images, (0, 1, 2, 3), (self.batch, self.channels, *self.sides))
        return np.ascontiguousarray(turned)

    def channels_first(self, images: NDArray[_Number]) -> NDArray[_Number]:
        """Turn images whose axes lie as here to `(batch, channels, height, width)`."""
        return images.transpose(self.batch, self.channels, *self.sides)

    def shape(self, batch: int, channels: int, size: Size) -> tuple[int, ...]:
        """Return the shape of such an image, in the order of the input's axes."""
        sides = [0, 0, 0, 0]
        sides[self.batch], sides[self.channels] = batch, channels
        sides[self.height], sides[self.width] = size.height, size.width
        return tuple(sides)


def image_layout(model: Model) -> ImageLayout:
    """Tell the image's axes by what the first sliding window does with them.

    Without a window on the image, a normalisation over the channels tells; without one, sides that
    are declared as in `(batch, 224, 224, 3)`. An image of which nothing is known has its channels
    first, as ONNX's own operators take them.

    Args:
        model: Not modified; its weights are not read.

    Raises:
        UnsupportedModelError: The graph has no image input.
    """
    graph = Graph.of(model)
    return graph.found("image layout", lambda: _inlined_layout(graph))


def is_turned_image(model: Model, tensor: str) -> bool:
    """Say whether a tensor is the image still, before any window, in another order than a map's."""
    graph = inlined(Graph.of(model))
    layout = image_layout(graph)
    axes = _axes(graph, image_input(graph.model).name).get(tensor, ())
    expected = (layout.batch, layout.channels, *layout.sides)
    return any(axis not in (None, own) for axis, own in zip(axes, expected, strict=False))


def _misplaced_words(name: str, layout: ImageLayout) -> str:
    return (
        f"input {name!r} has its {layout.words}, expected (batch, channels, height, width) or "
        "(batch, height, width, channels)"
    )


def require_sides_together(model: Model) -> ImageLayout:
    """Return the layout of a graph's image; decline one with its channels between the sides.

    Raises:
        DeclinedError: It is not; the node that tells is named.
    """
    graph = Graph.of(model)
    layout = image_layout(graph)
    if layout.has_sides_together:
        return layout
    reason = _misplaced_words(image_input(graph.model).name, layout)
    if layout.witness is None:
        raise DeclinedError(reason)
    name = graph.node(layout.witness).name
    raise DeclinedError(f"{graph.label(layout.witness)}: {reason}", node=name)


def static_size(model: Model) -> Size | None:
    """Return the height and width that the image input declares; None where they are symbolic."""
    graph = Graph.of(model)
    dims = image_input(graph.model).type.tensor_type.shape.dim
    layout = image_layout(graph)
    height, width = dims[layout.height].dim_value, dims[layout.width].dim_value
    if 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE:
        return Size(height, width)
    return None


def _inlined_layout(graph: Graph) -> ImageLayout:
    layout = _find_layout(inlined(graph))
    # A node inside a function has no number in the graph.
    return replace(layout, witness=None) if graph.model.functions else layout


def _find_layout(graph: Graph) -> ImageLayout:
    image = image_input(graph.model)
    by_norm: ImageLayout | None = None
    for index, axes in _followed(graph, {image.name: _IMAGE}):
        kind = graph.node(index).op_type
        if kind in _WINDOWS:
            layout = _by_window(index, axes)
            if layout is not None:
                return layout
        elif kind in _NORMS and by_norm is None and len(axes) > 1 and axes[1] in _IMAGE[1:]:
            by_norm = _with_channels(axes[1] or 0, index)
    return by_norm or _by_sides(image)


def _axes(graph: Graph, image: str) -> dict[str, Axes]:
    """Return where the image's axes lie in each tensor before a window, as far as is known."""
    known: dict[str, Axes] = {image: _IMAGE}
    for _ in _followed(graph, known):
        pass
    return known


def _followed(graph: Graph, known: dict[str, Axes]) -> Iterator[tuple[int, Axes]]:
    """Yield each node that reads the image, as far as its axes can be followed, and its data.

    Args:
        graph: The graph.
        known: Tensor → where the axes lie, of the image at first; gets what else is found.
    """
    for index, node in enumerate(graph.nodes):
        if not any(name in known for name in node.input):
            continue
        data = known.get(node.input[0])
        if data is not None:
            yield index, data
        if node.op_type not in _WINDOWS:
            after = follow_axes(graph, index, known)
            if after is not None:
                known.update(dict.fromkeys(filter(None, node.output), after))


def _by_window(index: int, axes: Axes) -> ImageLayout | None:
    """Read off what a window slides over; None where that is not two of the image's axes."""
    slid = sorted({axis for axis in axes[2:] if axis is not None})
    if len(axes) < 4 or len(slid) != 2 or 0 in slid or axes[0] not in (0, None):
        return None
    return _with_channels(next(axis for axis in _IMAGE[1:] if axis not in slid), index)


def _with_channels(channels: int, witness: int | None) -> ImageLayout:
    height, width = (axis for axis in _IMAGE[1:] if axis != channels)
    return ImageLayout(0, channels, height, width, witness)


def _by_sides(image: onnx.ValueInfoProto) -> ImageLayout:
    """Tell by the declared sides, where no node does: many, many, and as many as colours."""
    _, *sides, last = image.type.tensor_type.shape.dim
    is_last = last.dim_value in _COLOURS and all(
        side.dim_param or side.dim_value >= _LEAST_SIDE for side in sides
    )
    return _with_channels(3 if is_last else 1, None)
