"""Target resize: the image is resized to the training size inside the graph, before all else.

Bilinear with half-pixel centres and without anti-aliasing, as PyTorch's
`F.interpolate(mode="bilinear", align_corners=False)` has it. At the training size every sampling
point is a pixel, so nothing changes there.
"""

from __future__ import annotations

from functools import partial

import onnx

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.edit import Edits, unique_name
from anysize.surgery.graph import GraphView, image_input
from anysize.surgery.heads import Head, find_heads
from anysize.surgery.metadata import read_metadata
from anysize.surgery.operators import Emitter, emit_bilinear_resize
from anysize.surgery.shapes import infer_shapes, legal_interval, trained_size
from anysize.surgery.size_guard import GuardKind, drop_guards, guarded_image
from anysize.surgery.storage import weight_free
from anysize.surgery.targets.fixed_head import free_backbone, free_head
from anysize.surgery.targets.kept_layers import refuse_other_outputs
from anysize.surgery.targets.plan import NotNeeded, Output, Plan

__all__ = ["plan_resize"]

# Heads whose answer at their training size is what a resized image is to get.
_FIXED = (None, "as-is", "fc", "gap")


def plan_resize(model: onnx.ModelProto, size: Size | None, output: Output) -> Plan | NotNeeded:
    """Plan the resizing of the image to the training size; all layers stay as they are.

    Any classifier will do, one that pools globally, too: it sees what it was trained on.

    Args:
        model: A weight-free copy; it loses the guards that have no meaning any more.
        size: The training size; what the file declares or records, by default.
        output: Must be `map`, the default: the outputs stay what they are.

    Raises:
        DeclinedError: The training size is not known, the image is read inside a subgraph, or the
            opset is too old.
        IllegalSizeError: The graph does not take images of `size`.
        UsageError: Another output was asked for.
    """
    refuse_other_outputs("resize", output)
    metadata = read_metadata(model)
    if metadata.head not in _FIXED:
        return NotNeeded(f"the file records head {metadata.head}, which takes any size already")
    trained = size or trained_size(model)
    if trained is None:
        raise DeclinedError("the training size is not known; give --size to say it")
    heads = _fixed_heads(model, size)
    free = [h for h in heads if legal_interval(model, h.feature_map, trained).maximum is None]
    if free and len(free) == len(heads):
        return NotNeeded(
            f"every image size yields {free[0].feature_map!r} alike; the graph takes any already"
        )
    # What bounds an FC head says nothing of the image that is resized for it.
    stale: tuple[GuardKind, ...] = ("min", "max", "map") if heads else ("min",)
    _normalise(model, trained, stale)
    heads = _fixed_heads(model, trained)  # their nodes have moved
    return Plan(
        edits=_plan_edits(model, heads, trained),
        size=trained,
        min_size=Size(1, 1),
        max_size=None if heads else metadata.max_size,
        classes=_classes(model, heads, trained),
        head=heads[0] if heads else None,
        normalise=partial(_normalise, size=trained, stale=stale),
    )


def _fixed_heads(model: onnx.ModelProto, size: Size | None) -> tuple[Head, ...]:
    """Find the FC heads, whose flattens may have to be freed; a form that is not known stays."""
    try:
        return find_heads(model, size)
    except DeclinedError:
        return ()


def _normalise(model: onnx.ModelProto, size: Size, stale: tuple[GuardKind, ...]) -> None:
    drop_guards(model, *stale)
    free_backbone(model, size, follows="batch")


def _plan_edits(model: onnx.ModelProto, heads: tuple[Head, ...], size: Size) -> Edits:
    view, image, edits = GraphView(model), guarded_image(model), Edits()
    for head in heads:
        edits.add(free_head(view, head))
    readers = view.consumers(image)
    if not readers:
        raise DeclinedError(f"input {image!r}: nothing reads the image")
    resized = unique_name(model, f"{image}_resized")
    emitter = Emitter(weight_free(model), resized)
    emit_bilinear_resize(
        emitter,
        image,
        output=resized,
        output_size=(size.height, size.width),
        elem_type=image_input(model).type.tensor_type.elem_type,
    )
    for index in readers:
        if image not in view.node(index).input:
            raise DeclinedError(
                f"{view.label(index)}: reads the image inside a subgraph, where it would not be "
                "resized",
                node=view.node(index).name,
            )
        nodes = list(edits.nodes.get(index, [view.node(index)]))
        edits.nodes[index] = [_reading(node, image, resized) for node in nodes]
    edits.nodes[readers[0]] = [*emitter.nodes, *edits.nodes[readers[0]]]
    edits.added += emitter.initializers
    return edits


def _reading(node: onnx.NodeProto, old: str, new: str) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [new if name == old else name for name in node.input]
    return copy


def _classes(model: onnx.ModelProto, heads: tuple[Head, ...], size: Size) -> int | None:
    if heads:
        return heads[0].classes
    shape = infer_shapes(model, size).get(model.graph.output[0].name, ())
    return shape[1] if len(shape) > 1 else None
