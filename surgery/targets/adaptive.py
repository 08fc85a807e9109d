"""Target adaptive: the feature map is pooled to its trained size, the FC layers stay as they are.

Bin i of n over a cells spans ⌊i·a/n⌋ to ⌈(i+1)·a/n⌉ and is averaged, as PyTorch's
AdaptiveAvgPool2d has it. At the training size every bin is one cell, so nothing changes there.
"""

from __future__ import annotations

from functools import partial

import onnx

from anysize.sizes import Size
from anysize.surgery.edit import Edits, unique_name
from anysize.surgery.graph import GraphView, image_input
from anysize.surgery.heads import Head
from anysize.surgery.operators import Emitter, emit_adaptive_average_pool
from anysize.surgery.shapes import smallest_size
from anysize.surgery.size_guard import drop_guards, guard_min_size
from anysize.surgery.storage import inferred_values, weight_free
from anysize.surgery.targets.fixed_head import find_fixed_heads, free_backbone, free_head
from anysize.surgery.targets.kept_layers import refuse_other_outputs
from anysize.surgery.targets.plan import NotNeeded, Output, Plan

__all__ = ["plan_adaptive"]


def plan_adaptive(model: onnx.ModelProto, size: Size | None, output: Output) -> Plan | NotNeeded:
    """Plan the pooling of the feature map to the size that the FC head was trained on.

    Args:
        model: A weight-free copy; it loses its guards.
        size: The training size; what the file declares or records, by default.
        output: Must be `map`, the default: the outputs stay what they are.

    Raises:
        DeclinedError: The head has a form that would have to be guessed, the opset is too old; the
            message names the node.
        IllegalSizeError: The graph does not take images of `size`.
        UsageError: Another output was asked for.
    """
    refuse_other_outputs("adaptive", output)
    _normalise(model, size)
    found = find_fixed_heads(model, size)
    if isinstance(found, NotNeeded):
        return found
    made = {name for head in found.heads for name in head.outputs}
    others = [output.name for output in model.graph.output if output.name not in made]
    maps = [head.feature_map for head in found.heads]
    smallest = smallest_size(model, near=found.image_size, tensors=[*maps, *others])
    edits = Edits()
    for head in found.heads:
        edits.add(_pooled(model, head))
    return Plan(
        edits=edits,
        size=found.image_size,
        min_size=smallest,
        classes=found.classes,
        head=found.heads[0],
        normalise=partial(_normalise, size=found.image_size),
        finish=partial(guard_min_size, size=smallest),
    )


def _pooled(model: onnx.ModelProto, head: Head) -> Edits:
    """Plan a pooling before one head, which stays."""
    pooled = unique_name(model, f"{head.feature_map}_pooled")
    emitter = Emitter(weight_free(model), pooled)
    emit_adaptive_average_pool(
        emitter,
        head.feature_map,
        output=pooled,
        output_size=(head.map_size.height, head.map_size.width),
        elem_type=_element_type(model, head.feature_map),
    )
    edits = free_head(GraphView(model), head, feature_map=pooled)
    first = head.first
    edits.nodes[first] = [*emitter.nodes, *edits.nodes[first]]
    edits.added += emitter.initializers
    return edits


def _normalise(model: onnx.ModelProto, size: Size | None) -> None:
    drop_guards(model, "min", "max", "map")
    free_backbone(model, size)


def _element_type(model: onnx.ModelProto, tensor: str) -> int:
    known = inferred_values(model).get(tensor, image_input(model))
    return int(known.type.tensor_type.elem_type)
