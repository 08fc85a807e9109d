"""How many nodes a file comes to once its functions are written out.

Forty functions of two calls each are a file of four kilobytes and a graph of a million million
nodes; whatever walks, checks or inlines such a graph never comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from anysize.errors import ModelFileError

__all__ = ["MAX_NODES", "check_node_count"]

# The largest classifiers have some thousands.
MAX_NODES = 10_000

_Key = tuple[str, str, str]


def check_node_count(model: onnx.ModelProto) -> None:
    """Refuse a model of more nodes than any classifier has, subgraphs and functions included.

    Raises:
        ModelFileError: It has too many.
    """
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    known: dict[_Key, int] = {}
    total = _count(model.graph.node, functions, known)
    if total + sum(len(function.node) for function in model.functions) > MAX_NODES:
        raise ModelFileError(
            f"comes to more than {MAX_NODES} nodes, its functions written out; no classifier does"
        )


def _count(
    nodes: Iterable[onnx.NodeProto],
    functions: Mapping[_Key, onnx.FunctionProto],
    known: dict[_Key, int],
) -> int:
    total = 0
    for node in nodes:
        total += 1
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                total += _count(graph.node, functions, known)
        key = (node.domain, node.op_type, node.overload)
        if key in functions:
            if key not in known:
                known[key] = 0  # a function that calls itself is for the checker to refuse
                known[key] = _count(functions[key].node, functions, known)
            total += known[key]
        if total > MAX_NODES:
            return total
    return total
