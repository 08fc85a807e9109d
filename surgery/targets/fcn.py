"""Target fcn: fully connected layers become convolutions, the output a dense map."""

from __future__ import annotations

from functools import partial

import onnx

from anysize.sizes import Size
from anysize.surgery.graph import GraphView
from anysize.surgery.heads import Head
from anysize.surgery.size_guard import guard_min_size
from anysize.surgery.targets.fc_to_conv import plan_fc_to_conv
from anysize.surgery.targets.fixed_head import drop_fc_guards, find_fixed_heads, free_backbone
from anysize.surgery.targets.plan import NotNeeded, Output, Plan

__all__ = ["plan_fcn"]


def plan_fcn(model: onnx.ModelProto, size: Size | None, output: Output) -> Plan | NotNeeded:
    """Plan the rewrite to a fully convolutional graph.

    Raises:
        DeclinedError: The rewrite would have to guess; the message names the node.
        IllegalSizeError: The graph does not take images of `size`.
    """
    _normalise(model, size)
    found = find_fixed_heads(model, size)
    if isinstance(found, NotNeeded):
        return found
    converted = plan_fc_to_conv(GraphView(model), found.heads, output=output)
    return Plan(
        edits=converted.edits,
        size=found.image_size,
        min_size=found.interval.minimum,
        classes=found.classes,
        map_tensor=converted.map_tensor,
        head=found.heads[0],
        normalise=partial(_normalise, size=found.image_size),
        finish=partial(_guard, heads=found.heads) if output != "map" else None,
    )


def _guard(model: onnx.ModelProto, heads: tuple[Head, ...]) -> None:
    """Let small images fail: the mean over an empty map is NaN, and nothing else would."""
    for head in heads:
        guard_min_size(model, head.map_size, tensor=head.feature_map)


def _normalise(model: onnx.ModelProto, size: Size | None) -> None:
    drop_fc_guards(model)
    free_backbone(model, size)
