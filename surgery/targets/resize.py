"""Target resize: the image is resized to the training size inside the graph, before all else.

Bilinear with half-pixel centres and without anti-aliasing, as PyTorch's
`F.interpolate(mode="bilinear", align_corners=False)` has it. At the training size every sampling
point is a pixel, so nothing changes there.
"""

from __future__ import annotations

import onnx

from anysize.errors import DeclinedError
from anysize.sizes import Size, SizeRange
from anysize.surgery.graph import Edits, Graph, image_input, image_layout, unique_name
from anysize.surgery.heads import Head, find_heads
from anysize.surgery.metadata import read_metadata
from anysize.surgery.operators import Emitter, emit_bilinear_resize
from anysize.surgery.shapes import infer_shapes, trained_size
from anysize.surgery.size_guard import drop_guards, guarded_image
from anysize.surgery.targets.fixed_head import free_backbone, free_head
from anysize.surgery.targets.kept_layers import refuse_other_outputs
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten

__all__ = ["to_resize"]

# Heads that resize already, or take places on an image of the size that it has.
_UNTOUCHED = ("resize", "roi")


def to_resize(graph: Graph, size: Size | None, output: Output) -> Rewritten | NotNeeded:
    """Resize the image to the training size; all layers stay as they are.

    Any classifier will do, one that takes any size, too: it sees what it was trained on.

    Args:
        graph: Edited in place; it loses the guards that have no meaning any more.
        size: The training size; what the file declares or records, by default.
        output: Must be `map`, the default: the outputs stay what they are.

    Raises:
        DeclinedError: The training size is not known, the image is read inside a subgraph, or the
            opset is too old.
        IllegalSizeError: The graph does not take images of `size`.
        UsageError: Another output was asked for.
    """
    refuse_other_outputs("resize", output)
    metadata = read_metadata(graph)
    if metadata.head in _UNTOUCHED:
        return NotNeeded(f"the file records head {metadata.head}, which takes any size already")
    trained = size or trained_size(graph)
    if trained is None:
        raise DeclinedError("the training size is not known; give --size to say it")
    heads = _fixed_heads(graph, size)
    drop_guards(graph, "min", "steps")
    if heads:  # what bounds an FC head says nothing of the image that is resized for it
        drop_guards(graph, "max", "map")
    free_backbone(graph, size, follows="batch")
    heads = _fixed_heads(graph, trained)  # their nodes may have moved
    classes = _classes(graph, heads, trained)
    _resized(graph, heads, trained).apply(graph)
    return Rewritten(
        size=trained,
        sizes=SizeRange(Size(1, 1), None if heads else metadata.max_size),
        classes=classes,
        head=heads[0] if heads else None,
    )


def _fixed_heads(graph: Graph, size: Size | None) -> tuple[Head, ...]:
    """Find the FC heads, whose flattens may have to be freed; a form that is not known stays."""
    try:
        return find_heads(graph, size)
    except DeclinedError:
        return ()


def _resized(graph: Graph, heads: tuple[Head, ...], size: Size) -> Edits:
    """Plan the resizing before whatever reads the image, and heads that take any batch."""
    image, edits = guarded_image(graph), Edits()
    for head in heads:
        edits.add(free_head(graph, head))
    readers = graph.consumers(image)
    if not readers:
        raise DeclinedError(f"input {image!r}: nothing reads the image")
    resized = unique_name(graph.model, f"{image}_resized")
    emitter = Emitter(graph.model, resized)
    emit_bilinear_resize(
        emitter,
        image,
        output=resized,
        output_size=(size.height, size.width),
        axes=image_layout(graph).sides,
        elem_type=image_input(graph.model).type.tensor_type.elem_type,
    )
    for index in readers:
        if image not in graph.node(index).input:
            raise DeclinedError(
                f"{graph.label(index)}: reads the image inside a subgraph, where it would not be "
                "resized",
                node=graph.node(index).name,
            )
        nodes = list(edits.nodes.get(index, [graph.node(index)]))
        edits.nodes[index] = [_reading(node, image, resized) for node in nodes]
    first = readers[0]
    edits.put(first, [*emitter.nodes, *edits.nodes[first]], emitter.initializers)
    return edits


def _reading(node: onnx.NodeProto, old: str, new: str) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [new if name == old else name for name in node.input]
    return copy


def _classes(graph: Graph, heads: tuple[Head, ...], size: Size) -> int | None:
    if heads:
        return heads[0].classes
    shape = infer_shapes(graph, size).get(graph.model.graph.output[0].name, ())
    return shape[1] if len(shape) > 1 else None
