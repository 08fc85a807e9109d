"""Graphs that show their insides: with tensors as outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from anysize.surgery.storage import inferred_values

__all__ = ["Tensor", "declared", "may_be_float", "shown", "tensors_of"]

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
        if name and node.op_type != "Constant" and may_be_float(name, known)
    )


def shown(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Copy a model, with `names` as outputs behind its own."""
    known = inferred_values(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    copy.graph.output.extend(declared(name, known) for name in names if name not in present)
    return copy


def may_be_float(name: str, known: Mapping[str, onnx.ValueInfoProto]) -> bool:
    """Whether a tensor is of a floating-point type, as far as that is known."""
    kind = known[name].type.tensor_type.elem_type if name in known else 0
    return kind in (0, *_FLOATS)


def declared(name: str, known: Mapping[str, onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    """Declare an output by its type alone: a shape might be wrong, and is not needed."""
    info = onnx.ValueInfoProto(name=name)
    if name in known and known[name].type.HasField("tensor_type"):
        info.type.tensor_type.elem_type = known[name].type.tensor_type.elem_type
    return info
