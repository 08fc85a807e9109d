"""ReduceMean over height and width → GlobalAveragePool."""

from __future__ import annotations

import onnx

from anysize.surgery.graph import Edits, Graph, Model, NameMaker, attribute, inferred
from anysize.surgery.passes.result import PassResult, applied, refused

__all__ = ["reduce_mean_to_global_pool"]


_TO_LAST = [0, 2, 3, 1]


def reduce_mean_to_global_pool(model: Model) -> PassResult:
    """Write a mean over height and width of a map as GlobalAveragePool.

    These are axes 2 and 3 of a `(batch, C, h, w)` map, or axes 1 and 2 where a Transpose has put
    its channels last. Without kept dimensions a Flatten(axis=1) follows. The rank comes from onnx's
    shape inference; where it is unknown the node stays.

    Args:
        model: Edited in place.

    Returns:
        What was replaced, or why nothing was.
    """
    graph = Graph.of(model)
    candidates = [i for i, node in enumerate(graph.nodes) if node.op_type == "ReduceMean"]
    if not candidates:
        return refused(graph, "no ReduceMean in the graph")
    edits, values, names = Edits(), inferred(graph), NameMaker(graph.model)
    for index in candidates:
        node = graph.node(index)
        value = values.get(node.input[0])
        is_map = value is not None and len(value.type.tensor_type.shape.dim) == 4
        averaged = _averaged_map(graph, node) if is_map else ""
        if not averaged:
            continue
        last = "" if attribute(node, "keepdims", 1) else "Flatten"
        if averaged != node.input[0]:
            last = last or "Transpose"
        pooled = names(f"{node.output[0]}_pooled") if last else node.output[0]
        edits.nodes[index] = nodes = [
            onnx.helper.make_node("GlobalAveragePool", [averaged], [pooled], name=node.name)
        ]
        if last:
            attributes = {"axis": 1} if last == "Flatten" else {"perm": _TO_LAST}
            label = f"{node.name}_{last.lower()}"
            nodes.append(
                onnx.helper.make_node(last, [pooled], list(node.output), name=label, **attributes)
            )
    return applied(graph, edits, "no ReduceMean is over height and width of a map")


def _averaged_map(graph: Graph, node: onnx.NodeProto) -> str:
    """Name the `(batch, C, h, w)` map that a mean of four axes is over; "" where it is over none."""
    axes = graph.integers(node, "axes", 1) or ()
    places = {axis + 4 if axis < 0 else axis for axis in axes}
    if places == {2, 3}:
        return str(node.input[0])
    maker = graph.producer(node.input[0])
    if places != {1, 2} or maker is None:
        return ""
    moved = graph.node(maker)
    is_last = moved.op_type == "Transpose" and attribute(moved, "perm") == _TO_LAST
    return str(moved.input[0]) if is_last else ""
