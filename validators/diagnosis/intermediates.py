"""Graphs that show their insides: with tensors as outputs, or cut off after a node."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from anysize.surgery.graph import reads
from anysize.surgery.storage import copy_fields, inferred_values
from anysize.validators.references.graph import DOUBLE, OWN, GraphPlan

__all__ = ["BATCH", "Tensor", "batches", "evaluate", "shown", "tensors_of", "truncated"]

Array = NDArray[np.generic]

# So many tensors are held at once, in two precisions and in the runtime's.
BATCH = 16

_FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor, and the node that makes it: its place in graph order, name and operator."""

    name: str
    place: int
    node: str
    operator: str


def tensors_of(model: onnx.ModelProto) -> tuple[Tensor, ...]:
    """List the floating-point tensors that nodes of the main graph compute, in graph order.

    Constants are left out, and so are shapes: not every runtime hands those out (tract's have a
    type of their own), and a wrong shape shows in what is made with it.
    """
    known = inferred_values(model)
    return tuple(
        Tensor(name, place, node.name or f"{node.op_type} number {place}", node.op_type)
        for place, node in enumerate(model.graph.node)
        for name in node.output
        if name and node.op_type != "Constant" and _may_be_float(name, known)
    )


def batches(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Divide tensors into groups of a bounded number."""
    for start in range(0, len(tensors), BATCH):
        yield tuple(tensors[start : start + BATCH])


def shown(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Copy a model, with `names` as outputs behind its own."""
    known = inferred_values(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    copy.graph.output.extend(_output(name, known) for name in names if name not in present)
    return copy


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
        _output(name, known)
        for name in made
        if name in wanted or (name not in read and _may_be_float(name, known))
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
    pruned.graph.output.extend(_output(name, known) for name in names)
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


def _may_be_float(name: str, known: Mapping[str, onnx.ValueInfoProto]) -> bool:
    """Whether a tensor is of a floating-point type, as far as that is known."""
    kind = known[name].type.tensor_type.elem_type if name in known else 0
    return kind in (0, *_FLOATS)


def _output(name: str, known: Mapping[str, onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    """Declare an output by its type alone: a shape might be wrong, and is not needed."""
    info = onnx.ValueInfoProto(name=name)
    if name in known and known[name].type.HasField("tensor_type"):
        info.type.tensor_type.elem_type = known[name].type.tensor_type.elem_type
    return info
