"""The fully connected head that a rewrite replaces, or why there is none to replace."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from anysize.sizes import Size, SizeRange
from anysize.surgery.edit import Edits
from anysize.surgery.graph import GraphView
from anysize.surgery.heads import AnySizeAlreadyError, Head, find_head
from anysize.surgery.intervals import legal_interval
from anysize.surgery.layers import Linear, Pointwise
from anysize.surgery.metadata import read_metadata
from anysize.surgery.size_guard import drop_guards
from anysize.surgery.targets.plan import NotNeeded

__all__ = ["FixedHead", "drop_fc_guards", "find_fixed_head", "free_head"]


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
        """Units of the last fully connected layer."""
        linear = [layer for layer in self.head.layers if isinstance(layer, Linear)]
        return linear[-1].out_features


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


def drop_fc_guards(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove, in place, the guards that keep images from an FC head that it cannot take.

    The smallest image is left guarded: ONNX Runtime must not meet an empty map.
    """
    return drop_guards(model, "map", "max")


def free_head(view: GraphView, head: Head, *, feature_map: str = "") -> Edits:
    """Plan how a head that stays takes any batch: its flattens become Flatten(axis=1).

    A Reshape to `[1, K]` bakes the batch, and one to `[-1, K]` would fold a larger map into it.
    Weights, names and all other layers stay as they are.

    Args:
        view: The graph that `head` was found in.
        head: The head.
        feature_map: What the flattens read from now on; what they read already, by default.
    """
    edits = Edits()
    for index in head.flatten:
        old = view.node(index)
        source = feature_map or old.input[0]
        if old.op_type != "Flatten" or old.input[0] != source:
            edits.nodes[index] = [
                onnx.helper.make_node("Flatten", [source], old.output, name=old.name, axis=1)
            ]
    for layer in head.layers:
        if isinstance(layer, Pointwise) and layer.is_noop:
            old = view.node(layer.node)
            edits.nodes[layer.node] = [
                onnx.helper.make_node("Identity", [old.input[0]], old.output, name=old.name)
            ]
    return edits
