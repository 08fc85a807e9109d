"""The fully connected heads that a rewrite replaces, or why there are none to replace."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.numpy_helper

from anysize.errors import DeclinedError
from anysize.sizes import Size, SizeRange
from anysize.surgery.graph import Edits, Graph, NameMaker
from anysize.surgery.hard_coded import Follows
from anysize.surgery.heads import (
    AnySizeAlreadyError,
    AxisMove,
    Head,
    find_heads,
    find_kept_heads,
)
from anysize.surgery.metadata import read_metadata
from anysize.surgery.passes import free_baked_shapes, is_given_shapes
from anysize.surgery.shapes import legal_interval
from anysize.surgery.targets.plan import NotNeeded

__all__ = ["FixedHeads", "find_fixed_heads", "free_backbone", "free_head"]


@dataclass(frozen=True, slots=True)
class FixedHeads:
    """Fully connected heads, and the images that they take as they stand.

    Attributes:
        heads: One for each feature map, in the order of their first outputs.
        interval: The sizes that yield all the maps they were built for.
    """

    heads: tuple[Head, ...]
    interval: SizeRange

    @property
    def image_size(self) -> Size:
        """The training size."""
        return self.heads[0].image_size

    @property
    def classes(self) -> int | None:
        """Number of classes of the first output; None where its layers were not read."""
        return self.heads[0].classes


def find_fixed_heads(
    graph: Graph, size: Size | None, *, keeps_layers: bool = False
) -> FixedHeads | NotNeeded:
    """Find the heads that fix the image size.

    Args:
        graph: Not modified.
        size: The training size; what the file declares or records, by default.
        keeps_layers: What stands behind the first layer may have any form, for it stays.

    Raises:
        DeclinedError: The head has a form that would have to be guessed; the node is named.
        IllegalSizeError: The graph does not take images of `size`.
    """
    recorded = read_metadata(graph).head
    if recorded not in (None, "as-is", "fc"):
        return NotNeeded(f"the file records head {recorded}, which takes any size already")
    try:
        heads = (find_kept_heads if keeps_layers else find_heads)(graph, size)
    except AnySizeAlreadyError as exc:
        return NotNeeded(str(exc))
    intervals = [legal_interval(graph, head.feature_map, head.image_size) for head in heads]
    # Where there is no largest image, adaptive pooling or a resize stands before the head.
    fixed = [pair for pair in zip(heads, intervals, strict=True) if pair[1].maximum is not None]
    if not fixed:
        return NotNeeded(
            f"every image size yields {heads[0].feature_map!r} alike; the graph takes any already"
        )
    interval = functools.reduce(operator.and_, (interval for _, interval in fixed))
    return FixedHeads(tuple(head for head, _ in fixed), interval)


def free_backbone(graph: Graph, size: Size | None, *, follows: Follows = "size and batch") -> None:
    """Let the shapes that are built in before the head, or anywhere without one, follow the image.

    Args:
        graph: Edited in place.
        size: The training size; what the file declares or records, by default.
        follows: What images are to differ in.

    Raises:
        DeclinedError: A shape can mean different things, or nothing; the node is named.
        IllegalSizeError: The graph does not take images of `size`.
    """
    if not is_given_shapes(graph):
        return
    try:
        tensors = [head.feature_map for head in find_kept_heads(graph, size)]
    except DeclinedError:  # whether that matters is for the target to say
        tensors = []
    free_baked_shapes(graph, size, tensors=tensors, follows=follows)


def free_head(graph: Graph, head: Head, *, flattened: str = "") -> Edits:
    """Plan how a head that stays takes any batch.

    A Reshape to `[1, K]` bakes the batch, and one to `[-1, K]` would fold a larger map into it:
    what flattens becomes Flatten(axis=1), any other Reshape copies the batch. Weights, names and
    all other layers stay as they are.

    Args:
        graph: The graph that `head` was found in.
        head: The head.
        flattened: What the head flattens from now on; what it flattens already, by default.
    """
    edits, names = Edits(), NameMaker(graph.model)
    for layer in head.layers:
        for index in layer.nodes:
            node = onnx.NodeProto()
            node.CopyFrom(graph.node(index))
            if flattened:
                node.input[:] = [flattened if n in head.read else n for n in node.input]
            if isinstance(layer, AxisMove):
                _free(node, layer, edits, names)
            if node != graph.node(index):
                edits.nodes[index] = [node]
    return edits


def _free(node: onnx.NodeProto, move: AxisMove, edits: Edits, names: NameMaker) -> None:
    """Write the node so that it keeps whatever batch it gets, where that needs writing."""
    if move.is_flatten:
        if node.op_type == "Flatten":
            return
        is_moved = move.before.axes != move.layout.axes
        node.op_type = "Flatten" if is_moved else "Identity"
        attributes = [onnx.helper.make_attribute("axis", 1)] if is_moved else []
    elif node.op_type == "Reshape" and move.before.axes[0] == move.layout.axes[0] == "N":
        target = np.array((0, *move.layout.shape[1:]), np.int64)
        name = names(f"{node.output[0]}_shape")
        edits.added.append(onnx.numpy_helper.from_array(target, name))
        node.input[1:] = [name]
        return
    elif node.op_type == "Expand":  # what is behind it broadcasts
        node.op_type, attributes = "Identity", []
    else:
        return
    del node.input[1:], node.attribute[:]
    node.attribute.extend(attributes)
