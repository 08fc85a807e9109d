"""Divisors that are the number of cells → counted in the graph; other such numbers decline.

A file exported at one size holds 256 where its network divides a sum by height × width. That is
freed where the number can mean nothing else than an average: a sum over cells divided by how many
there are, and the logarithm of one less the logarithm of that. Wherever a number may stem from the
traced size and its meaning is not certain, only the user can tell.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
import onnx.helper

from anysize.errors import DeclinedError
from anysize.sizes import Size, SizeRange
from anysize.surgery.graph import Edits, Graph, image_input
from anysize.surgery.hard_coded import (
    Number,
    find_numbers,
    is_open,
    may_hold_numbers,
    paddings,
    traced_paddings,
)
from anysize.surgery.operators import Emitter, axis_length
from anysize.surgery.passes.result import PassResult, applied, refused
from anysize.surgery.shapes import IllegalSizeError, ShapeRun, ShapeWalk, shape_walk

__all__ = ["free_numbers"]

# A map at any depth has an odd side at one of these, and an even one at another.
_STEPS = (1, 2, 4, 8, 16, 32, 64)


def free_numbers(
    graph: Graph,
    size: Size,
    sizes: SizeRange,
    *,
    tensors: Sequence[str] = (),
    keep: Collection[str] = (),
    declines: bool = True,
) -> PassResult:
    """Let every number that was computed from the traced size follow the image.

    Args:
        graph: Edited in place; it takes other sizes than `size`.
        size: The training size.
        sizes: All that it takes.
        tensors: Look only at what these are computed from; at everything where empty.
        keep: Names of nodes, or of what they make, whose numbers are constants.
        declines: Whether to decline where a meaning is not certain, or else to leave the number.

    Returns:
        What was replaced, or why nothing was.

    Raises:
        DeclinedError: What a number means is not certain; the node is named.
    """
    reached = graph.downstream(image_input(graph.model).name)
    if tensors:
        reached &= set().union(*(graph.upstream(name) for name in tensors))
    nodes = sorted(reached)
    if not may_hold_numbers(graph, nodes):
        return refused(graph, "no number stems from the traced size")
    larger = sizes.larger(size)
    if larger == size:
        return refused(graph, "the graph takes no larger image")
    walk = shape_walk(graph)
    trained, run = _run(walk, size), _run(walk, larger)
    if trained is None or run is None:
        return refused(graph, "the graph takes no larger image")
    if declines:
        _refuse_paddings(graph, nodes, walk, (trained, run), sizes, keep)
    edits = Edits()
    for number in find_numbers(graph, nodes, trained, run):
        is_left = number.meaning == "other" and not declines
        if not is_left and not _is_kept(graph, number.index, keep):
            _free(graph, number, trained, edits)
    return applied(graph, edits, "no number stems from the traced size")


def _run(walk: ShapeWalk, size: Size) -> ShapeRun | None:
    run = walk.start(size)
    try:
        for step in walk.steps:
            walk.advance(step, run)
    except IllegalSizeError:
        return None
    return run


def _is_kept(graph: Graph, index: int, keep: Collection[str]) -> bool:
    node = graph.node(index)
    return bool({node.name, *node.output} & set(keep))


def _named(graph: Graph, index: int) -> str:
    """Return what `keep` calls a node: its name, or what it makes."""
    return graph.node(index).name or graph.node(index).output[0]


def _refuse_paddings(
    graph: Graph,
    nodes: Sequence[int],
    walk: ShapeWalk,
    runs: tuple[ShapeRun, ShapeRun],
    sizes: SizeRange,
    keep: Collection[str],
) -> None:
    """Decline where a padding may have been computed from the traced size."""
    trained, larger = (paddings(graph, nodes, run) for run in runs)
    if not is_open(trained, larger):
        return
    size = runs[0].size
    near = [sizes.near(size.height + step, size.width + step) for step in _STEPS]
    others = [_run(walk, other) for other in dict.fromkeys(near) if other is not None]
    cases = [larger, *(paddings(graph, nodes, run) for run in others if run is not None)]
    for one in traced_paddings(trained, cases):
        if _is_kept(graph, one.index, keep) or _is_kept(graph, one.window, keep):
            continue
        begin, end = one.sides
        raise DeclinedError(
            f"{graph.label(one.index)}: pads {one.cells} cells by {begin} and {end}, which may "
            f"stem from {size} (TensorFlow's same padding); --keep {_named(graph, one.index)} says "
            "that it is a constant, --reference SOURCE asks the module, --to resize keeps all as "
            "it is",
            node=graph.node(one.index).name,
        )


def _free(graph: Graph, number: Number, trained: ShapeRun, edits: Edits) -> None:
    """Plan the count in the place of one number, or decline."""
    index, node = number.index, onnx.NodeProto()
    node.CopyFrom(graph.node(index))
    if number.meaning == "other":
        raise DeclinedError(
            f"{graph.label(index)}: {node.op_type} with {number.value:g}, which may be "
            f"{number.words} at {trained.size}; --keep {_named(graph, index)} says that it is a "
            "constant, --reference SOURCE asks the module, --to resize keeps all as it is",
            node=node.name,
        )
    constant = trained.values[node.input[number.position]]
    emitter = Emitter(graph.model, node.output[0])
    count = ""
    for cells in number.cells:
        length = axis_length(emitter, cells.tensor, cells.axis)
        count = emitter.node("Mul", count, length) if count else length
    if constant.dtype != np.int64:
        to = trained.types[node.input[number.position]]
        count = emitter.node("Cast", count, to=to)
    if number.meaning == "reciprocal":
        count = emitter.node("Reciprocal", count)
    if number.meaning == "logarithm":
        count = emitter.node("Log", count)
        count = emitter.node("Neg", count) if node.op_type == "Add" else count
    if constant.ndim > 1:
        count = emitter.node("Reshape", count, emitter.constant(constant.shape))
    node.input[number.position] = count
    edits.put(index, [*emitter.nodes, node], emitter.initializers)
