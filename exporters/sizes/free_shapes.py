"""Compute inside the graph what a static trace wrote down as the shape of something.

A channel shuffle is traced as a Reshape to (2, 2, 58, 28, 28), group normalisation as one back to
the shape of its input, an interpolation "to the size of that map" as a Resize to 28×28. Two traces
at batches and sizes that differ tell the numbers that belong to the network from the ones that
belong to the image: those differ, and a tensor of the graph whose axis has the one number in the
one trace and the other number in the other one is where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import helper

from anysize.exporters.sizes.places import Place, Sides, Spread
from anysize.exporters.sizes.twins import SHAPE_INPUTS, Twins
from anysize.exporters.tracing import DOMAIN, Trace
from anysize.surgery.graph import Edits, Graph
from anysize.surgery.operators import Emitter

__all__ = ["free_shapes"]

_POOLING = ("AdaptiveAveragePool2d", "AdaptiveMaxPool2d")


def free_shapes(model: onnx.ModelProto, first: Trace, second: Trace) -> None:
    """Replace, in place, shapes that belong to the traced image by ones computed from tensors.

    What cannot be traced back to a tensor stays as it is, and is left for
    `anysize.exporters.sizes.hard_coded` to refuse.

    Args:
        model: Made from `first`; its node and tensor names are still the trace's.
        first: One trace.
        second: Another one, with the same operators, at another batch and size.
    """
    names = {name for node in model.graph.node for name in node.output}
    names.update(value.name for value in model.graph.input)
    twins = Twins(first.model.graph, second.model.graph, names)
    edits = Edits()
    for index, node in enumerate(model.graph.node):
        spreads, numbers = twins.spread(node), twins.numbers(node)
        shaped = [
            place for place in SHAPE_INPUTS.get(node.op_type, ()) if twins.differs(node, place)
        ]
        if not (node.domain == DOMAIN or shaped or spreads or numbers):
            continue
        emitter, freed = Emitter(model, node.output[0]), onnx.NodeProto()
        freed.CopyFrom(node)
        if node.domain == DOMAIN:
            _free_placeholder(emitter, freed, twins)
        for place in shaped:
            _free_shape_input(emitter, freed, place, twins)
        _free_spread(emitter, freed, spreads, twins)
        for place, number in numbers.items():
            freed.input[place] = number.emit(emitter)
        if freed != node:
            edits.put(index, [*emitter.nodes, freed], emitter.initializers)
    edits.apply(Graph(model))


def _free_shape_input(emitter: Emitter, node: onnx.NodeProto, place: int, twins: Twins) -> None:
    one, other = twins.shape_input(node, place)
    pieces: list[int | None] = [a if a == b else None for a, b in zip(one, other, strict=True)]
    if node.op_type == "Reshape":
        _copy_axes(node, pieces, (one, other), twins)
    entries = _computed(emitter, node, pieces, (one, other), twins)
    if entries is not None:
        node.input[place] = entries


def _free_spread(
    emitter: Emitter, node: onnx.NodeProto, spreads: Mapping[int, Spread], twins: Twins
) -> None:
    for place, spread in spreads.items():
        pieces = [a if a == b else None for a, b in zip(*spread.repeats, strict=True)]
        repeats = _computed(emitter, node, pieces, spread.repeats, twins)
        if repeats is not None:
            core = emitter.constant(spread.core, dtype=spread.core.dtype)
            # Expand, which more runtimes know, leaves an axis of length 1 as it is.
            operator = "Expand" if spread.is_broadcast else "Tile"
            node.input[place] = emitter.node(operator, core, repeats)


def _copy_axes(
    node: onnx.NodeProto, pieces: list[int | None], wanted: tuple[Sides, Sides], twins: Twins
) -> None:
    """Use what Reshape itself offers: 0 copies the axis, and one -1 is the rest."""
    if 0 in pieces:  # an empty tensor, or a copy that is there already
        return
    kept = [entry for entry in node.attribute if entry.name != "allowzero"]
    del node.attribute[:]
    node.attribute.extend(kept)
    have = twins.shape(node.input[0])
    for axis, piece in enumerate(pieces):
        same = piece is None and axis < len(have[0])
        if same and all(h[axis] == w[axis] for h, w in zip(have, wanted, strict=True)):
            pieces[axis] = 0
    if -1 in pieces:
        return
    gaps = [axis for axis, piece in enumerate(pieces) if piece is None]
    one, other = wanted
    if len(gaps) > 1:  # a product of the batch and a side is no axis of any tensor
        gaps = [a for a in gaps if twins.find(node, (one[a : a + 1], other[a : a + 1])) is None]
    if len(gaps) == 1:
        pieces[gaps[0]] = -1


def _computed(
    emitter: Emitter,
    node: onnx.NodeProto,
    pieces: Sequence[int | None],
    wanted: tuple[Sides, Sides],
    twins: Twins,
) -> str | None:
    """Emit a shape, from numbers and from axes of tensors; None where one cannot be found."""
    parts: list[list[int] | Place] = []
    axis = 0
    while axis < len(pieces):
        end = _run_end(pieces, axis)
        numbers = [piece for piece in pieces[axis:end] if piece is not None]
        if numbers:
            parts.append(numbers)
        else:
            place, end = _found(node, axis, end, wanted, twins)
            if place is None:
                return None
            parts.append(place)
        axis = end
    tensors = [
        part.emit(emitter) if isinstance(part, Place) else emitter.constant(part) for part in parts
    ]
    return tensors[0] if len(tensors) == 1 else emitter.node("Concat", *tensors, axis=0)


def _found(
    node: onnx.NodeProto, axis: int, end: int, wanted: tuple[Sides, Sides], twins: Twins
) -> tuple[Place | None, int]:
    """Find where lengths come from, and at which axis those end that do."""
    if node.op_type == "Reshape":
        place = twins.find_split(node, wanted, axis)
        if place is not None:
            return place, axis + 1
    while end > axis:  # the longest run that stands in one tensor
        place = twins.find(node, (wanted[0][axis:end], wanted[1][axis:end]), axis)
        if place is not None:
            return place, end
        end -= 1
    one = wanted[0][axis], wanted[1][axis]
    return twins.find_scaled(node, one) or twins.find_rounded(node, one), axis + 1


def _run_end(pieces: Sequence[int | None], start: int) -> int:
    """Return where the run of numbers, or of gaps, that begins at `start` ends."""
    end = start + 1
    while end < len(pieces) and (pieces[end] is None) == (pieces[start] is None):
        end += 1
    return end


def _free_placeholder(emitter: Emitter, node: onnx.NodeProto, twins: Twins) -> None:
    """Write 0 for a pooled axis that keeps its length, and name where a resized one gets its."""
    one, other = twins.output_size(node)
    if one == other:
        return
    freed, lengths = list(one), ["", ""]
    filled = _filled(node, (one, other), twins)
    for axis in (0, 1):
        if axis in filled:
            lengths[axis], freed[axis] = filled[axis].emit(emitter), 0
        if one[axis] == other[axis] or axis in filled:
            continue
        if node.op_type in _POOLING:
            if not _keeps(twins.shape(node.input[0]), axis + 2, one[axis], other[axis]):
                return
        else:
            place = _side_of_a_map(node, axis, (one, other), twins)
            if place is None:
                return
            lengths[axis] = place.emit(emitter)
        freed[axis] = 0
    if any(lengths):
        node.input.extend(lengths)
    attribute = next(a for a in node.attribute if a.name == "output_size")
    attribute.CopyFrom(helper.make_attribute("output_size", freed))


def _filled(node: onnx.NodeProto, sizes: tuple[Sides, Sides], twins: Twins) -> dict[int, Place]:
    """Say of a map that it is resized to both sides rounded up."""
    have = twins.shape(node.input[0])
    if node.op_type in _POOLING or not have[0]:
        return {}
    added = {
        axis: (sizes[0][axis - 2] - have[0][axis], sizes[1][axis - 2] - have[1][axis])
        for axis in (2, 3)
    }
    return {axis - 2: place for axis, place in twins.find_filling(node, added).items()}


def _keeps(shape: tuple[Sides, Sides], axis: int, one: int, other: int) -> bool:
    return bool(shape[0]) and (shape[0][axis], shape[1][axis]) == (one, other)


def _side_of_a_map(
    node: onnx.NodeProto, axis: int, sizes: tuple[Sides, Sides], twins: Twins
) -> Place | None:
    """Find where one side of a resized map comes from: a map of that size, or else a side."""
    one, other = sizes
    if one[0] != other[0] and one[1] != other[1]:
        both = twins.find(node, sizes)
        if both is not None:
            return Place(both.tensor, both.start + axis, both.start + axis + 1)
    wanted = one[axis : axis + 1], other[axis : axis + 1]
    return twins.find(node, wanted)
