"""First states of recurrent layers that are zeros for one batch → none, which means zeros."""

from __future__ import annotations

import onnx

from anysize.surgery.graph import Edits, Graph
from anysize.surgery.passes.result import PassResult, applied

__all__ = ["drop_zero_states"]

_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
# GRU and RNN have the hidden state alone.
_STATES = slice(5, 7)


def drop_zero_states(graph: Graph) -> PassResult:
    """Leave out the first states of GRU, LSTM and RNN where they are constant zeros.

    Without them an operator begins with zeros, for whatever batch (ONNX's GRU, LSTM and RNN).

    Args:
        graph: Edited in place.

    Returns:
        What was replaced, or why nothing was.
    """
    edits = Edits()
    for index, node in enumerate(graph.nodes):
        states = [name for name in node.input[_STATES] if name]
        if node.op_type not in _RECURRENT or node.domain not in ("", "ai.onnx") or not states:
            continue
        values = [graph.small_constant(name) for name in states]
        if all(value is not None and not value.any() for value in values):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[_STATES] = [""] * len(node.input[_STATES])
            edits.nodes[index] = [copy]
    return applied(graph, edits, "no first state of a recurrent layer is zeros")
