"""Target fcn: fully connected layers become convolutions, the output a dense map."""

from __future__ import annotations

from functools import partial

import onnx

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.edit import Edits
from anysize.surgery.fc_to_conv import plan_fc_to_conv
from anysize.surgery.graph import GraphView
from anysize.surgery.heads import AnySizeAlreadyError, Head, find_head
from anysize.surgery.intervals import legal_interval
from anysize.surgery.layers import Linear, Tail
from anysize.surgery.metadata import read_metadata
from anysize.surgery.size_guard import guard_min_size
from anysize.surgery.targets.plan import NotNeeded, Output, Plan

__all__ = ["plan_fcn"]


def plan_fcn(model: onnx.ModelProto, size: Size | None, output: Output) -> Plan | NotNeeded:
    """Plan the rewrite to a fully convolutional graph.

    Raises:
        DeclinedError: The rewrite would have to guess; the message names the node.
        IllegalSizeError: The graph does not take images of `size`.
    """
    try:
        head = find_head(model, size)
    except AnySizeAlreadyError as exc:
        return NotNeeded(str(exc))
    except DeclinedError:
        recorded = read_metadata(model).head
        if recorded not in (None, "fc"):
            return NotNeeded(f"the file records head {recorded}, which takes any size already")
        raise
    interval = legal_interval(model, head.feature_map, head.image_size)
    if interval.maximum is None:  # adaptive pooling or a resize stands before it
        return NotNeeded(
            f"every image size yields {head.feature_map!r} alike; the graph takes any already"
        )
    edits = plan_fc_to_conv(GraphView(model), head, output=output)
    finish = None
    if output != "map":
        # The mean over an empty map is NaN: below the smallest size nothing else would fail.
        finish = partial(guard_min_size, size=head.map_size, tensor=head.feature_map)
    return Plan(
        edits=edits,
        size=head.image_size,
        min_size=interval.minimum,
        classes=[layer for layer in head.layers if isinstance(layer, Linear)][-1].out_features,
        map_tensor=_map_tensor(edits, head, output),
        head=head,
        finish=finish,
    )


def _map_tensor(edits: Edits, head: Head, output: Output) -> str:
    if output == "both":
        return edits.new_outputs[0].name
    name = head.outputs[0]
    for layer in head.layers:
        if isinstance(layer, Tail) and layer.output == name:
            name = layer.data
    if output == "map":
        return name
    # … → map → GlobalAveragePool → Flatten → the name that the output had
    ends = [nodes for nodes in edits.nodes.values() if nodes and nodes[-1].output[0] == name]
    return str(ends[0][-2].input[0])
