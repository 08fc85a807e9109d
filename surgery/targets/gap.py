"""Target gap: an average over a window that is the whole map becomes the average over any map."""

from __future__ import annotations

import onnx

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.passes import (
    free_baked_shapes,
    local_pool_to_global,
    reshape_to_flatten,
)
from anysize.surgery.targets.kept_layers import (
    plan_kept_layers,
    refuse_other_outputs,
    size_to_free_at,
)
from anysize.surgery.targets.plan import NotNeeded, Output, Plan

__all__ = ["plan_gap"]


def plan_gap(model: onnx.ModelProto, size: Size | None, output: Output) -> Plan | NotNeeded:
    """Plan how a pooling over a fixed window becomes global; layers and outputs stay.

    Args:
        model: A weight-free copy; its poolings are made global, its flattens Flatten.
        size: The training size; what the file declares or records, by default.
        output: Must be `map`, the default: the outputs stay what they are.

    Raises:
        DeclinedError: The training size is not known, or no window covers its map.
        IllegalSizeError: The graph does not take images of `size`.
        UsageError: Another output was asked for.
    """
    refuse_other_outputs("gap", output, instead="give --to cam")
    trained = size_to_free_at(model, size)
    if isinstance(trained, NotNeeded):
        return trained
    made = local_pool_to_global(model, trained)
    if not made.applied:
        if any(node.op_type == "GlobalAveragePool" for node in model.graph.node):
            return NotNeeded(f"{made.reason}, and the graph pools globally already")
        raise DeclinedError(f"{made.reason}; give --to fcn, adaptive or resize for FC layers")
    _normalise(model, trained)
    return plan_kept_layers(model, trained, _normalise)


def _normalise(model: onnx.ModelProto, size: Size) -> None:
    local_pool_to_global(model, size)
    reshape_to_flatten(model, size)
    free_baked_shapes(model, size)
