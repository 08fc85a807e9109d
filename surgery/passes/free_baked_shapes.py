"""Reshape, Expand and Resize to the sizes of a trace → to the sizes of the image.

ShuffleNet's channel shuffle is traced as a Reshape to (1, 2, 58, 28, 28): the batch, height and
width of the traced image stand among the network's own numbers. What they mean at other sizes is
worked out from the shapes of the whole graph (`anysize.surgery.hard_coded`). `0` and one `-1` say
it where they can; elsewhere the shape is computed from the tensor that has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnx.helper

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.graph import Edits, Graph, Model, image_input
from anysize.surgery.hard_coded import (
    SHAPE_INPUT,
    Axis,
    Follows,
    Found,
    Piece,
    ShapeMeaning,
    find_hard_coded,
    grows,
    lengths,
)
from anysize.surgery.operators import Emitter, axis_length
from anysize.surgery.passes.reshape_to_transpose import reshape_to_transpose
from anysize.surgery.passes.result import PassResult, applied, refused
from anysize.surgery.shapes import trained_size
from anysize.surgery.size_guard import is_guard

__all__ = ["free_baked_shapes", "is_given_shapes"]

# Before it, the target of a Reshape is an attribute.
_SHAPE_AS_INPUT = 5


def free_baked_shapes(
    model: Model,
    size: Size | None = None,
    *,
    tensors: Sequence[str] = (),
    follows: Follows = "size and batch",
) -> PassResult:
    """Let every shape that a trace wrote down as numbers follow the image.

    Args:
        model: Edited in place.
        size: The training size; what the file declares or records, by default.
        tensors: Look only at what these are computed from; the graph's outputs by default.
        follows: What images are to differ in; for a graph that resizes them, the batch alone.

    Returns:
        What was replaced, or why nothing was.

    Raises:
        DeclinedError: A shape can mean different things, or nothing; the node is named.
        IllegalSizeError: The graph does not take images of `size`.
    """
    graph = Graph.of(model)
    size = size or trained_size(graph)
    if size is None:
        return refused(graph, "the training size is not known")
    if not is_given_shapes(graph, tensors):
        return refused(graph, "no node is given a shape")
    moved = reshape_to_transpose(graph, size, tensors=tensors)
    if moved.applied:
        rest = free_baked_shapes(graph, size, tensors=tensors, follows=follows)
        return replace(rest, applied=True, nodes=moved.nodes + rest.nodes, reason="")
    found = find_hard_coded(graph, size, tensors=tensors, follows=follows)
    if isinstance(found, str):
        return refused(graph, found)
    edits = Edits()
    for name, meaning in found.meanings.items():
        index = graph.producer(name)
        if index is not None and not meaning.is_as_written:
            _free(graph, index, meaning, _earlier(graph, index, found), edits)
    return applied(graph, edits, "no shape is built in")


def is_given_shapes(graph: Graph, tensors: Sequence[str] = ()) -> bool:
    """Say whether a node on the image's way is given a shape; a guard, which checks one, is not.

    Args:
        graph: The graph.
        tensors: Look only at what these are computed from; everywhere where empty.
    """
    reached = graph.downstream(image_input(graph.model).name)
    if tensors:
        reached &= set().union(*(graph.upstream(name) for name in tensors))
    nodes = map(graph.node, reached)
    return any(node.op_type in SHAPE_INPUT and not is_guard(node) for node in nodes)


def _earlier(graph: Graph, index: int, found: Found) -> Found:
    """Leave out what is only known behind a node: its own sides, first of all."""
    made = {name: place for place, node in enumerate(graph.nodes) for name in node.output}
    sources = {p: s for p, s in found.sources.items() if made.get(s.tensor, -1) < index}
    return replace(found, sources=sources)


def _free(graph: Graph, index: int, meaning: ShapeMeaning, found: Found, edits: Edits) -> None:
    node = onnx.NodeProto()
    node.CopyFrom(graph.node(index))
    emitter = Emitter(graph.model, node.output[0])
    entries = _entries(node, meaning, found.cases)
    position = SHAPE_INPUT[node.op_type]
    if node.op_type == "Reshape":
        kept = [a for a in node.attribute if a.name not in ("allowzero", "shape")]
        del node.attribute[:]
        node.attribute.extend(kept)
    if emitter.opset >= _SHAPE_AS_INPUT or node.op_type != "Reshape":
        target = _computed(emitter, node, entries, meaning, found)
        node.input[position:] = [target, *node.input[position + 1 :]]
        edits.put(index, [*emitter.nodes, node], emitter.initializers)
        return
    if any(isinstance(entry, tuple) for entry in entries):
        raise DeclinedError(
            f"{graph.label(index)}: opset {emitter.opset} cannot compute the target of a Reshape; "
            "raise it with onnx.version_converter.convert_version",
            node=node.name,
        )
    node.attribute.append(onnx.helper.make_attribute("shape", entries))
    edits.nodes[index] = [node]


def _entries(node: onnx.NodeProto, meaning: ShapeMeaning, cases: int) -> list[int | Axis]:
    """Write each side as the number that says it at every size, or as what it is a product of."""
    sides = [lengths(axis, cases) for axis in meaning.axes]
    have = [lengths(axis, cases) for axis in meaning.before]
    entries: list[int | Axis] = []
    for place, (side, axis) in enumerate(zip(sides, meaning.axes, strict=True)):
        is_kept = place < len(have) and have[place] == side
        if not grows(side):
            entries.append(side[0])
        elif is_kept and node.op_type == "Reshape":
            entries.append(0)
        elif is_kept and node.op_type == "Expand":
            entries.append(1)
        else:
            entries.append(axis)
    open_places = [place for place, entry in enumerate(entries) if isinstance(entry, tuple)]
    if node.op_type == "Reshape" and len(open_places) == 1:
        entries[open_places[0]] = -1
    return entries


def _computed(
    emitter: Emitter,
    node: onnx.NodeProto,
    entries: Sequence[int | Axis],
    meaning: ShapeMeaning,
    found: Found,
) -> str:
    """Emit a shape, from numbers and from axes of tensors."""
    have = [lengths(axis, found.cases) for axis in meaning.before]
    parts: list[str] = []
    numbers: list[int] = []
    for entry in entries:
        if isinstance(entry, int):
            numbers.append(entry)
            continue
        if numbers:
            parts.append(emitter.constant(numbers))
            numbers = []
        parts.append(_length(emitter, node, entry, have, found))
    if numbers:
        parts.append(emitter.constant(numbers))
    return parts[0] if len(parts) == 1 else emitter.node("Concat", *parts, axis=0)


def _length(
    emitter: Emitter, node: onnx.NodeProto, axis: Axis, have: Sequence[Piece], found: Found
) -> str:
    """Emit the length of one side, from the node's own input where that has it."""
    whole = lengths(axis, found.cases)
    if whole in have:
        return axis_length(emitter, node.input[0], have.index(whole))
    pieces = [piece for piece in axis if grows(piece)]
    factor = whole[0] // int(np.prod([piece[0] for piece in pieces]))
    if whole in found.sources:
        pieces, factor = [whole], 1
    product = ""
    for piece in pieces:
        length = _piece(emitter, node, piece, have, found)
        product = emitter.node("Mul", product, length) if product else length
    return emitter.node("Mul", product, emitter.constant([factor])) if factor > 1 else product


def _piece(
    emitter: Emitter, node: onnx.NodeProto, piece: Piece, have: Sequence[Piece], found: Found
) -> str:
    if piece in have:
        return axis_length(emitter, node.input[0], have.index(piece))
    source = found.sources.get(piece)
    if source is None:
        label = f"node {node.name or node.output[0]!r}"
        raise DeclinedError(
            f"{label}: no tensor of the graph has a side that its shape needs; write functions out "
            "with onnx.inliner.inline_local_functions",
            node=node.name,
        )
    length = axis_length(emitter, source.tensor, source.axis)
    if source.divisor == 1:
        return length
    return emitter.node("Div", length, emitter.constant([source.divisor]))
