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
from anysize.surgery.graph import Edits, Graph
from anysize.surgery.hard_coded import Number, find_numbers, suspects
from anysize.surgery.operators import Emitter, axis_length
from anysize.surgery.passes.result import PassResult, applied, refused
from anysize.surgery.shapes import IllegalSizeError, ShapeRun, shape_walk

__all__ = ["free_numbers"]


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
    nodes = suspects(graph, tensors)
    larger = sizes.larger(size)
    if not nodes or larger == size:
        return refused(graph, "no number stems from the traced size")
    try:
        trained, run = (shape_walk(graph).run(one) for one in (size, larger))
    except IllegalSizeError:
        return refused(graph, "the graph takes no larger image")
    edits = Edits()
    for number in find_numbers(graph, nodes, trained, run):
        is_left = number.meaning == "other" and not declines
        if not is_left and set(keep).isdisjoint(graph.names(number.index)):
            _free(graph, number, trained, edits)
    return applied(graph, edits, "no number stems from the traced size")


def _free(graph: Graph, number: Number, trained: ShapeRun, edits: Edits) -> None:
    """Plan the count in the place of one number, or decline."""
    index, node = number.index, onnx.NodeProto()
    node.CopyFrom(graph.node(index))
    if number.meaning == "other":
        raise DeclinedError(
            f"{graph.label(index)}: {node.op_type} with {number.value:g}, which may be "
            f"{number.words} at {trained.size}; --keep {graph.names(index)[0]} says that it is a "
            "constant, --reference SOURCE asks the module, --to resize keeps all as it is",
            node=node.name,
        )
    constant = trained.values[node.input[number.position]]
    emitter = Emitter(graph.model, node.output[0])
    count = ""
    for cells in number.cells:
        length = axis_length(emitter, cells.tensor, cells.axis)
        count = emitter.node("Mul", count, length) if count else length
    if number.meaning == "less one":
        count = emitter.node("Sub", count, emitter.constant([1]))
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
