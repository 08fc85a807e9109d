"""Target fcn: fully connected layers become convolutions, the output a dense map."""

from __future__ import annotations

from functools import partial

import onnx

from anysize.sizes import Size
from anysize.surgery.fc_to_conv import plan_fc_to_conv
from anysize.surgery.graph import GraphView
from anysize.surgery.size_guard import guard_min_size
from anysize.surgery.targets.fixed_head import drop_fc_guards, find_fixed_head, free_backbone
from anysize.surgery.targets.plan import NotNeeded, Output, Plan

__all__ = ["plan_fcn"]


def plan_fcn(model: onnx.ModelProto, size: Size | None, output: Output) -> Plan | NotNeeded:
    """Plan the rewrite to a fully convolutional graph.

    Raises:
        DeclinedError: The rewrite would have to guess; the message names the node.
        IllegalSizeError: The graph does not take images of `size`.
    """
    _normalise(model, size)
    found = find_fixed_head(model, size)
    if isinstance(found, NotNeeded):
        return found
    head, interval = found.head, found.interval
    converted = plan_fc_to_conv(GraphView(model), head, output=output)
    finish = None
    if output != "map":
        # The mean over an empty map is NaN: below the smallest size nothing else would fail.
        finish = partial(guard_min_size, size=head.map_size, tensor=head.feature_map)
    return Plan(
        edits=converted.edits,
        size=head.image_size,
        min_size=interval.minimum,
        classes=found.classes,
        map_tensor=converted.map_tensor,
        head=head,
        normalise=partial(_normalise, size=head.image_size),
        finish=finish,
    )


def _normalise(model: onnx.ModelProto, size: Size | None) -> None:
    drop_fc_guards(model)
    free_backbone(model, size)
