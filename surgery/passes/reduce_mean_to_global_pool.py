"""ReduceMean over height and width → GlobalAveragePool."""

from __future__ import annotations

import onnx

from anysize.surgery.graph import Edits, Graph, Model, attribute, inferred, unique_name
from anysize.surgery.passes.result import PassResult, applied, refused

__all__ = ["reduce_mean_to_global_pool"]


def reduce_mean_to_global_pool(model: Model) -> PassResult:
    """Write a mean over axes 2 and 3 of a `(batch, C, h, w)` map as GlobalAveragePool.

    Without kept dimensions a Flatten(axis=1) follows. The rank comes from onnx's shape
    inference; where it is unknown the node stays.

    Args:
        model: Edited in place.

    Returns:
        What was replaced, or why nothing was.
    """
    graph = Graph.of(model)
    candidates = [i for i, node in enumerate(graph.nodes) if node.op_type == "ReduceMean"]
    if not candidates:
        return refused(graph, "no ReduceMean in the graph")
    edits, values = Edits(), inferred(graph)
    for index in candidates:
        node = graph.node(index)
        value = values.get(node.input[0])
        is_map = value is not None and len(value.type.tensor_type.shape.dim) == 4
        axes = graph.integers(node, "axes", 1) or ()
        places = {axis + 4 if axis < 0 else axis for axis in axes}
        if not is_map or places != {2, 3}:
            continue
        pool = onnx.helper.make_node(
            "GlobalAveragePool", [node.input[0]], list(node.output), name=node.name
        )
        edits.nodes[index] = [pool]
        if not attribute(node, "keepdims", 1):
            pooled = unique_name(graph.model, f"{node.output[0]}_pooled")
            pool.output[0] = pooled
            flatten = onnx.helper.make_node(
                "Flatten", [pooled], list(node.output), name=f"{node.name}_flatten", axis=1
            )
            edits.nodes[index] = [pool, flatten]
    return applied(graph, edits, "no ReduceMean is over height and width of a map")
