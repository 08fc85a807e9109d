"""Target gap: an average over a window that is the whole map becomes the average over any map."""

from __future__ import annotations

from functools import partial

import onnx

from anysize.errors import DeclinedError, UsageError
from anysize.sizes import Size
from anysize.surgery.edit import Edits
from anysize.surgery.intervals import smallest_size, trained_size
from anysize.surgery.metadata import read_metadata
from anysize.surgery.passes import (
    free_baked_shapes,
    local_pool_to_global,
    reshape_to_flatten,
)
from anysize.surgery.shapes import infer_shapes
from anysize.surgery.size_guard import guard_min_size
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
    if output != "map":
        raise UsageError(
            f"rewrite to gap, output {output!r}: the outputs stay what they are, so there is no "
            "map to choose; leave --output out, or give --to cam"
        )
    metadata = read_metadata(model)
    if metadata.head not in (None, "as-is", "fc"):
        return NotNeeded(f"the file records head {metadata.head}, which takes any size already")
    trained = size or trained_size(model)
    if trained is None:
        raise DeclinedError("the training size is not known; give --size to say it")
    made = local_pool_to_global(model, trained)
    if not made.applied:
        if any(node.op_type == "GlobalAveragePool" for node in model.graph.node):
            return NotNeeded(f"{made.reason}, and the graph pools globally already")
        raise DeclinedError(f"{made.reason}; give --to fcn, adaptive or resize for FC layers")
    reshape_to_flatten(model, trained)
    free_baked_shapes(model, trained)
    smallest = smallest_size(model, near=trained)
    shape = infer_shapes(model, trained).get(model.graph.output[0].name, ())
    return Plan(
        edits=Edits(),
        size=trained,
        min_size=smallest,
        max_size=metadata.max_size,
        classes=shape[1] if len(shape) > 1 else None,
        normalise=partial(_normalise, size=trained),
        finish=partial(guard_min_size, size=smallest),
    )


def _normalise(model: onnx.ModelProto, size: Size) -> None:
    local_pool_to_global(model, size)
    reshape_to_flatten(model, size)
    free_baked_shapes(model, size)
