"""Means over height and width, however they are spelled → GlobalAveragePool."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping

import onnx

from anysize.sizes import Size
from anysize.surgery.graph import (
    Edits,
    Graph,
    Model,
    attribute,
    element_type,
    image_input,
    inferred,
    unique_name,
)
from anysize.surgery.passes.result import PassResult, applied, refused
from anysize.surgery.shapes import IllegalSizeError, Shape, infer_shapes, trained_size

__all__ = ["reduce_mean_to_global_pool"]

_MAP = ("batch", "channels", "height", "width")
_LAST = ("batch", "height", "width", "channels")
_TO_LAST = [0, 2, 3, 1]
_ROWS, _CELL, _CELL_LAST = _MAP[:2], (*_MAP[:2], "", ""), ("batch", "", "", "channels")


def reduce_mean_to_global_pool(model: Model, size: Size | None = None) -> PassResult:
    """Write a mean over the cells of a `(batch, C, h, w)` map as GlobalAveragePool.

    Such a mean is one over axes 2 and 3, one over each of them after the other, or one over the
    flattened cells; or over where these lie behind a Transpose that puts the channels last. Without
    kept dimensions a Flatten(axis=1) follows. Where the rank of the map cannot be told the nodes
    stay; so do those over float64, which ONNX Runtime does not pool.

    Args:
        model: Edited in place.
        size: A size that the graph takes; what the file declares or records, by default, else
            onnx's shape inference has to know.

    Returns:
        What was replaced, or why nothing was.
    """
    graph = Graph.of(model)
    candidates = [i for i, node in enumerate(graph.nodes) if node.op_type == "ReduceMean"]
    if not candidates:
        return refused(graph, "no ReduceMean in the graph")
    edits, shapes = Edits(), _shapes(graph, size or trained_size(graph))
    for index in candidates:
        first, left = _mean_of(graph, index, shapes)
        if left not in (_ROWS, _CELL, _CELL_LAST):
            continue
        node = graph.node(index)
        source = graph.node(first).input[0]
        if _casts_to_double(graph) and element_type(graph, source) == onnx.TensorProto.DOUBLE:
            continue
        pool = onnx.helper.make_node(
            "GlobalAveragePool", [source], list(node.output), name=node.name
        )
        edits.nodes[index] = [pool]
        if left != _CELL:
            pooled = unique_name(graph.model, f"{node.output[0]}_pooled")
            pool.output[0] = pooled
            kind = "Flatten" if left == _ROWS else "Transpose"
            attributes = {"axis": 1} if left == _ROWS else {"perm": _TO_LAST}
            label = f"{node.name}_{kind.lower()}"
            moved = onnx.helper.make_node(
                kind, [pooled], list(node.output), name=label, **attributes
            )
            edits.nodes[index] = [pool, moved]
    return applied(graph, edits, "no ReduceMean is over height and width of a map")


def _casts_to_double(graph: Graph) -> bool:
    casts = (node for node in graph.nodes if node.op_type == "Cast")
    return any(attribute(node, "to") == onnx.TensorProto.DOUBLE for node in casts)


def _shapes(graph: Graph, size: Size | None) -> Mapping[str, Shape]:
    """Return the shape of each tensor; with a 0 for each length that is not known."""
    if size is not None:
        batch = max(image_input(graph.model).type.tensor_type.shape.dim[0].dim_value, 1)
        with contextlib.suppress(IllegalSizeError):  # something else is built in
            return infer_shapes(graph, size, batch)
    declared = {
        name: value.type.tensor_type.shape.dim
        for name, value in inferred(graph).items()
        if value.type.tensor_type.HasField("shape")
    }
    return {name: tuple(dim.dim_value for dim in dims) for name, dims in declared.items()}


def _mean_of(graph: Graph, index: int, shapes: Mapping[str, Shape]) -> tuple[int, tuple[str, ...]]:
    """Follow a ReduceMean back to the map that it averages.

    Returns:
        The node that reads the map, and what the axes are that are left: names of `_MAP`, "" for
        one of length 1; none where there is no such map.
    """
    node = graph.node(index)
    first, axes = _before(graph, node.input[0], shapes)
    reduced = {
        axis + len(axes) if axis < 0 else axis for axis in graph.integers(node, "axes", 1) or ()
    }
    if not axes or not reduced or not reduced <= {place for place, name in enumerate(axes)}:
        return index, ()
    keeps = bool(attribute(node, "keepdims", 1))
    left = tuple(
        "" if place in reduced else name
        for place, name in enumerate(axes)
        if keeps or place not in reduced
    )
    return (index if first is None else first), left


def _before(
    graph: Graph, tensor: str, shapes: Mapping[str, Shape]
) -> tuple[int | None, tuple[str, ...]]:
    """Say what the axes of a tensor are: those of a map, or what is left of them."""
    shape, maker = shapes.get(tensor, ()), graph.producer(tensor)
    node = None if maker is None else graph.node(maker)
    if maker is not None and node is not None and node.op_type == "ReduceMean":
        first, left = _mean_of(graph, maker, shapes)
        if left and set(left) & set(_MAP[2:]):  # over one of the two axes
            return first, left
    if len(shape) == len(_MAP):
        if node is None or node.op_type != "Transpose" or attribute(node, "perm") != _TO_LAST:
            return None, _MAP
        return maker, _LAST
    if maker is None or node is None or node.op_type not in ("Flatten", "Reshape"):
        return None, ()
    before = shapes.get(node.input[0], ())
    if len(before) != len(_MAP) or 0 in before[1:]:
        return None, ()
    turned, axes = _before(graph, node.input[0], shapes)
    source = maker if turned is None else turned
    if axes == _MAP and shape == (*before[:2], math.prod(before[2:])):
        return source, (*_MAP[:2], "cells")
    if axes == _LAST and shape == (before[0], math.prod(before[1:3]), before[3]):
        return source, ("batch", "cells", "channels")
    return None, ()
