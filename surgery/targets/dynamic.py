"""Target dynamic: batch, height and width of a graph that could take any are freed; no more."""

from __future__ import annotations

import onnx

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.graph import image_input
from anysize.surgery.passes import free_baked_shapes, local_pool_to_global, reshape_to_flatten
from anysize.surgery.storage import weight_free
from anysize.surgery.targets.fixed_head import FixedHeads, find_fixed_heads
from anysize.surgery.targets.kept_layers import (
    plan_kept_layers,
    refuse_other_outputs,
    size_to_free_at,
)
from anysize.surgery.targets.plan import NotNeeded, Output, Plan

__all__ = ["plan_dynamic"]


def plan_dynamic(model: onnx.ModelProto, size: Size | None, output: Output) -> Plan | NotNeeded:
    """Plan how the shapes that a trace has built in follow the image; layers and outputs stay.

    Args:
        model: A weight-free copy; its flattens become Flatten, its shapes are computed.
        size: The training size; what the file declares or records, by default.
        output: Must be `map`, the default: the outputs stay what they are.

    Raises:
        DeclinedError: The training size is not known, a layer takes that size alone, or a shape
            can mean different things; the message names the node.
        IllegalSizeError: The graph does not take images of `size`.
        UsageError: Another output was asked for.
    """
    refuse_other_outputs("dynamic", output, instead="give --to cam")
    trained = size_to_free_at(model, size)
    if isinstance(trained, NotNeeded):
        return trained
    _refuse_fixed(model, trained)
    is_changed = _normalise(model, trained)
    dims = image_input(model).type.tensor_type.shape.dim
    if not is_changed and not any(dims[axis].dim_value for axis in (0, 2, 3)):
        return NotNeeded("batch, height and width are free already, and no shape is built in")
    return plan_kept_layers(model, trained, _normalise)


def _refuse_fixed(model: onnx.ModelProto, size: Size) -> None:
    """Decline where a layer takes the trained map alone, and say what would help."""
    pools = local_pool_to_global(weight_free(model), size)
    if pools.applied:
        label = f"node {pools.nodes[0]!r}"
        raise DeclinedError(
            f"{label}: averages over a window as large as the map at {size}, "
            "which is local on any other; give --to gap",
            node=pools.nodes[0],
        )
    try:
        found = find_fixed_heads(model, size)
    except DeclinedError:  # of a form that no rewrite knows; whether it is fixed will be seen
        found = None
    if isinstance(found, FixedHeads):
        head = found.heads[0]
        raise DeclinedError(
            f"the fully connected head on {head.feature_map!r} takes its "
            f"{head.channels}×{head.map_size.height}×{head.map_size.width} alone, so height and "
            "width cannot be freed; give --to fcn, adaptive or resize"
        )


def _normalise(model: onnx.ModelProto, size: Size) -> bool:
    flattens = reshape_to_flatten(model, size)
    return free_baked_shapes(model, size).applied or flattens.applied
