"""Graphs that are cut off after a node, and what the specification makes of a tensor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from anysize.surgery.graph import reads
from anysize.surgery.storage import copy_fields, inferred_values
from anysize.validators.references.graph import (
    DOUBLE,
    OWN,
    GraphPlan,
    Tensor,
    declared,
    may_be_float,
)

__all__ = ["BATCH", "batches", "evaluate", "truncated"]

Array = NDArray[np.generic]

# So many tensors are held at once, in two precisions and in the runtime's.
BATCH = 16


def batches(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Divide tensors into groups of a bounded number."""
    for start in range(0, len(tensors), BATCH):
        yield tuple(tensors[start : start + BATCH])


def truncated(model: onnx.ModelProto, count: int) -> onnx.ModelProto:
    """Copy the first `count` nodes of a model; its outputs are what they leave unread.

    Only floating-point tensors are, as in `tensors_of`; there may be none.
    """
    known = inferred_values(model)
    copy = onnx.ModelProto()
    copy_fields(model, copy, leave_out=("graph",))
    copy_fields(model.graph, copy.graph, leave_out=("node", "output", "initializer"))
    nodes = model.graph.node[:count]
    copy.graph.node.extend(nodes)
    read = {name for node in nodes for name in reads(node)}
    copy.graph.initializer.extend(t for t in model.graph.initializer if t.name in read)
    wanted = {output.name for output in model.graph.output}
    made = [name for node in nodes for name in node.output if name]
    copy.graph.output.extend(
        declared(name, known)
        for name in made
        if name in wanted or (name not in read and may_be_float(name, known))
    )
    return copy


def evaluate(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    names: Sequence[str],
    *,
    source: Path,
    is_double: bool,
) -> dict[str, Array]:
    """Compute tensors by the specification's evaluator, from the nodes that they need.

    Args:
        model: The graph.
        inputs: By name.
        names: The tensors to compute.
        source: The file of the model; external weights lie beside it.
        is_double: In float64 throughout; else in the graph's own types.
    """
    needed = _needed(model, names)
    known = inferred_values(model)
    pruned = onnx.ModelProto()
    copy_fields(model, pruned, leave_out=("graph",))
    copy_fields(model.graph, pruned.graph, leave_out=("node", "output", "initializer"))
    pruned.graph.node.extend(model.graph.node[place] for place in needed)
    read = {name for node in pruned.graph.node for name in reads(node)} | set(names)
    pruned.graph.initializer.extend(t for t in model.graph.initializer if t.name in read)
    pruned.graph.output.extend(declared(name, known) for name in names)
    if is_double:
        inputs = {
            name: array.astype(np.float64) if array.dtype.kind == "f" else array
            for name, array in inputs.items()
        }
    with contextlib.ExitStack() as stack:
        plan = GraphPlan(pruned, folder=source.absolute().parent)
        stack.callback(plan.close)
        session = (DOUBLE if is_double else OWN).load(plan.path, threads=1)
        stack.callback(session.close)
        return dict(session.run(inputs))


def _needed(model: onnx.ModelProto, names: Sequence[str]) -> list[int]:
    """Return the places of the nodes that `names` depend on, in graph order."""
    wanted, places = set(names), []
    for place in reversed(range(len(model.graph.node))):
        node = model.graph.node[place]
        if wanted.intersection(node.output):
            places.append(place)
            wanted.update(reads(node))
    return places[::-1]
