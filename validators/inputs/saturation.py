"""Which outputs of a graph are probabilities, which a runtime rounds as parts of 1."""

from __future__ import annotations

from anysize.surgery.graph import Graph, Model

__all__ = ["saturated_outputs"]

_SATURATE = frozenset({"HardSigmoid", "Sigmoid", "Softmax", "Tanh"})
# They hand on what they read, or an average of it.
_BEHIND = frozenset(
    {
        "AveragePool", "Cast", "Flatten", "GlobalAveragePool", "Identity", "ReduceMean", "Reshape",
        "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


def saturated_outputs(model: Model) -> frozenset[str]:
    """Name the outputs that come from a Sigmoid, a Softmax or the like, and from nothing else."""
    graph = Graph.of(model)
    return frozenset(o.name for o in graph.model.graph.output if _saturates(graph, o.name))


def _saturates(graph: Graph, tensor: str) -> bool:
    while (index := graph.producer(tensor)) is not None:
        node = graph.node(index)
        if node.op_type not in _BEHIND:
            return node.op_type in _SATURATE
        tensor = node.input[0]
    return False
