"""The fully connected head that a rewrite replaces, or why there is none to replace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx.numpy_helper

from anysize.errors import DeclinedError
from anysize.sizes import Size, SizeRange
from anysize.surgery.baked import Follows
from anysize.surgery.edit import Edits, NameMaker
from anysize.surgery.graph import GraphView
from anysize.surgery.heads import AnySizeAlreadyError, Head, find_head
from anysize.surgery.intervals import legal_interval
from anysize.surgery.layers import Move
from anysize.surgery.metadata import read_metadata
from anysize.surgery.passes import free_baked_shapes
from anysize.surgery.size_guard import drop_guards
from anysize.surgery.targets.plan import NotNeeded

__all__ = ["FixedHead", "drop_fc_guards", "find_fixed_head", "free_backbone", "free_head"]


@dataclass(frozen=True, slots=True)
class FixedHead:
    """A fully connected head, and the images that it takes as it stands.

    Attributes:
        head: The head.
        interval: The sizes that yield the feature map it was built for.
    """

    head: Head
    interval: SizeRange

    @property
    def classes(self) -> int:
        """Number of classes of the first output."""
        return self.head.classes


def find_fixed_head(model: onnx.ModelProto, size: Size | None) -> FixedHead | NotNeeded:
    """Find the head that fixes the image size.

    Args:
        model: Not modified.
        size: The training size; what the file declares or records, by default.

    Raises:
        DeclinedError: The head has a form that would have to be guessed; the node is named.
        IllegalSizeError: The graph does not take images of `size`.
    """
    recorded = read_metadata(model).head
    if recorded not in (None, "as-is", "fc"):
        return NotNeeded(f"the file records head {recorded}, which takes any size already")
    try:
        head = find_head(model, size)
    except AnySizeAlreadyError as exc:
        return NotNeeded(str(exc))
    interval = legal_interval(model, head.feature_map, head.image_size)
    if interval.maximum is None:  # adaptive pooling or a resize stands before it
        return NotNeeded(
            f"every image size yields {head.feature_map!r} alike; the graph takes any already"
        )
    return FixedHead(head, interval)


def free_backbone(
    model: onnx.ModelProto, size: Size | None, *, follows: Follows = "size and batch"
) -> None:
    """Let the shapes that are built in before the head, or anywhere without one, follow the image.

    Args:
        model: Edited in place.
        size: The training size; what the file declares or records, by default.
        follows: What images are to differ in.

    Raises:
        DeclinedError: A shape can mean different things, or nothing; the node is named.
        IllegalSizeError: The graph does not take images of `size`.
    """
    try:
        tensors = [find_head(model, size).feature_map]
    except DeclinedError:  # whether that matters is for the target to say
        tensors = []
    free_baked_shapes(model, size, tensors=tensors, follows=follows)


def drop_fc_guards(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove, in place, the guards that keep images from an FC head that it cannot take.

    The smallest image is left guarded: ONNX Runtime must not meet an empty map.
    """
    return drop_guards(model, "map", "max")


def free_head(view: GraphView, head: Head, *, feature_map: str = "") -> Edits:
    """Plan how a head that stays takes any batch.

    A Reshape to `[1, K]` bakes the batch, and one to `[-1, K]` would fold a larger map into it:
    what flattens becomes Flatten(axis=1), any other Reshape copies the batch. Weights, names and
    all other layers stay as they are.

    Args:
        view: The graph that `head` was found in.
        head: The head.
        feature_map: What the head reads from now on; what it reads already, by default.
    """
    edits, names = Edits(), NameMaker(view.model)
    for layer in head.layers:
        for index in layer.nodes:
            node = onnx.NodeProto()
            node.CopyFrom(view.node(index))
            if feature_map:
                node.input[:] = [feature_map if n in head.entries else n for n in node.input]
            if isinstance(layer, Move):
                _free(node, layer, edits, names)
            if node != view.node(index):
                edits.nodes[index] = [node]
    return edits


def _free(node: onnx.NodeProto, move: Move, edits: Edits, names: NameMaker) -> None:
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
    else:
        return
    del node.input[1:], node.attribute[:]
    node.attribute.extend(attributes)
