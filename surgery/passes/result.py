"""What a pass did."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from anysize.surgery.graph import Edits, Graph

__all__ = ["PassResult", "applied", "refused"]


@dataclass(frozen=True, slots=True)
class PassResult:
    """The outcome of one pass.

    Attributes:
        model: The model that was given, edited in place.
        applied: Whether anything changed.
        nodes: Names of the nodes that were replaced (`#index` for those without a name).
        reason: Why nothing changed; empty where something did.
    """

    model: onnx.ModelProto
    applied: bool
    nodes: tuple[str, ...] = ()
    reason: str = ""


def refused(graph: Graph, reason: str) -> PassResult:
    """Say why a pass changed nothing."""
    return PassResult(graph.model, applied=False, reason=reason)


def applied(graph: Graph, edits: Edits, reason: str) -> PassResult:
    """Replace the nodes that a pass wrote anew; where there are none, say why."""
    if not edits.nodes:
        return refused(graph, reason)
    names = tuple(graph.node(index).name or f"#{index}" for index in edits.nodes)
    edits.apply(graph)
    return PassResult(graph.model, applied=True, nodes=names)
