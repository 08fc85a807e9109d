"""Edits of a model, collected first and applied afterwards.

A rewrite is tried on a weight-free copy, step by step, and checked there; the same edits are then
applied to the model itself: a rewrite that fails leaves nothing half done. Weights change by
their `dims` alone; where their bytes must move (a transposed matrix, a shared tensor) one tensor
is derived from another: at once if it is in memory, otherwise while the new file is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.numpy_helper

from anysize.errors import DeclinedError
from anysize.surgery.graph.graph import Graph
from anysize.surgery.graph.nodes import reads
from anysize.surgery.storage import (
    DATA_FIELDS,
    HeldWeights,
    Permutation,
    WeightPlace,
    can_permute,
    copy_fields,
    element_count,
    is_loaded,
    locate,
    permute_later,
    weight_free,
)

__all__ = ["Derived", "Edits", "NameMaker", "Trial", "add_initializer", "prune", "unique_name"]

# From this IR version on an initializer need not be listed among the graph's inputs, too.
_UNLISTED_IR = 4


@dataclass(frozen=True, slots=True)
class Derived:
    """A new initializer computed from a tensor of the model.

    Attributes:
        name: Name of the new initializer.
        source: Name of the initializer, or output of the Constant node, that it comes from.
        dims: Dims of the new one.
        turns: How its elements are moved first.
        scale: Factor on every element.
        reason: Why the bytes could not stay where they were.
    """

    name: str
    source: str
    dims: tuple[int, ...]
    reason: str
    turns: tuple[Permutation, ...] = ()
    scale: float = 1.0


@dataclass(slots=True)
class Edits:
    """What to do to a model; indices are those of its nodes before any edit.

    Attributes:
        nodes: Node index → the nodes that take its place; none removes it.
        dims: Initializer, or output of a Constant node → its new dims, same elements.
        added: New small initializers.
        derived: New initializers computed from old ones.
        outputs: Graph output → its new shape, numbers and symbols.
        new_outputs: Graph outputs to append.
    """

    nodes: dict[int, Sequence[onnx.NodeProto]] = field(default_factory=dict)
    dims: dict[str, tuple[int, ...]] = field(default_factory=dict)
    added: list[onnx.TensorProto] = field(default_factory=list)
    derived: list[Derived] = field(default_factory=list)
    outputs: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    new_outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def put(
        self,
        index: int,
        nodes: Sequence[onnx.NodeProto],
        constants: Iterable[onnx.TensorProto] = (),
    ) -> None:
        """Let nodes, and the small constants that they read, take the place of node `index`."""
        self.nodes[index] = nodes
        self.added += constants

    def add(self, other: Edits) -> None:
        """Add what another plan wants done to other nodes and tensors of the same model."""
        self.nodes |= other.nodes
        self.dims |= other.dims
        self.added += other.added
        self.derived += other.derived
        self.outputs |= other.outputs
        self.new_outputs += other.new_outputs

    def apply(self, graph: Graph, place: WeightPlace | None = None) -> None:
        """Do it, then remove what nothing reads any more because of it.

        Args:
            graph: Edited in place. On a weight-free copy derived tensors get dims and no bytes.
            place: Where tensors are that the model does not hold itself.

        Raises:
            DeclinedError: A derived tensor's source is not in memory and `place` is None.
        """
        model, nodes = graph.model, graph.model.graph.node
        derived = [_derive(model, recipe, place) for recipe in self.derived]
        for name, dims in self.dims.items():
            _set_dims(model, name, dims)
        orphans: list[str] = []
        for index in sorted(self.nodes, reverse=True):
            orphans += [*reads(nodes[index]), *nodes[index].output]
            del nodes[index]
            for node in reversed(self.nodes[index]):
                nodes.insert(index, node)
        for tensor in (*self.added, *derived):
            add_initializer(model, tensor)
        model.graph.output.extend(self.new_outputs)
        for output in model.graph.output:
            if output.name in self.outputs:
                _set_shape(output, self.outputs[output.name])
        prune(model, orphans)
        graph.changed(self)


class Trial(Graph):
    """A weight-free copy of a model that remembers its edits, so that the model can have them too.

    Args:
        graph: The model; not modified.

    Attributes:
        edits: What was done so far, in order.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(weight_free(graph.model))
        self.knows_as(graph)
        self.edits: list[Edits] = []

    def changed(self, edits: object = None) -> None:
        """Forget what was found out, and remember what was done."""
        super().changed()
        if isinstance(edits, Edits):
            self.edits.append(edits)

    def repeat_on(self, graph: Graph, place: WeightPlace | None) -> None:
        """Do to a model what was done to its copy; see `Edits.apply`."""
        for edits in self.edits:
            edits.apply(graph, place)


def add_initializer(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    """Append an initializer, as the model's IR version has it."""
    graph = model.graph
    graph.initializer.append(tensor)
    if model.ir_version < _UNLISTED_IR:
        graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )


def _derive(model: onnx.ModelProto, recipe: Derived, place: WeightPlace | None) -> onnx.TensorProto:
    source = _find(model, recipe.source)
    result = onnx.TensorProto()
    copy_fields(source, result, leave_out=(*DATA_FIELDS, "dims", "external_data", "data_location"))
    result.name = recipe.name
    result.dims.extend(recipe.dims)
    if not is_loaded(source) and not source.external_data:  # a weight-free copy
        result.data_location = onnx.TensorProto.EXTERNAL
        return result
    if not is_loaded(source):
        if place is None:
            raise DeclinedError(
                f"tensor {source.name!r}: its bytes must move ({recipe.reason}) and they are "
                "not in memory; say which file the model came from"
            )
        if can_permute(source) and math.prod(recipe.dims) == element_count(source):
            permute_later(result, source, recipe.turns, recipe.scale)
            return result
        inline = onnx.TensorProto()
        copy_fields(source, inline, leave_out=("external_data", "data_location"))
        inline.raw_data = locate(source, place).read()
        source = inline
    array = onnx.numpy_helper.to_array(source)
    for turn in recipe.turns:
        array = array.reshape(turn.dims).transpose(turn.perm)
    if recipe.scale != 1.0:
        array = (array * np.float64(recipe.scale)).astype(array.dtype)
    array = np.broadcast_to(array.ravel(), recipe.dims) if array.size == 1 else array
    array = np.ascontiguousarray(array.reshape(recipe.dims))
    if isinstance(place, HeldWeights):
        place.set_data(result, array)
    else:
        result.raw_data = onnx.numpy_helper.from_array(array).raw_data
    return result


def _find(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    tensor: onnx.TensorProto
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return tensor
    for node in model.graph.node:
        if node.op_type == "Constant" and name in node.output:
            for entry in node.attribute:
                if entry.name == "value":
                    tensor = entry.t
                    return tensor
    raise KeyError(name)


def _set_dims(model: onnx.ModelProto, name: str, dims: tuple[int, ...]) -> None:
    tensor = _find(model, name)
    del tensor.dims[:]
    tensor.dims.extend(dims)
    for value in (*model.graph.input, *model.graph.value_info):  # IR 3 lists initializers twice
        if value.name == name:
            _set_shape(value, dims)


def _set_shape(value: onnx.ValueInfoProto, shape: Iterable[int | str]) -> None:
    dims = value.type.tensor_type.shape.dim
    del dims[:]
    for side in shape:
        if isinstance(side, str):
            dims.add().dim_param = side
        else:
            dims.add().dim_value = side


def prune(model: onnx.ModelProto, tensors: Iterable[str]) -> None:
    """Remove nodes, initializers and recorded shapes that only `tensors` needed.

    Args:
        model: Edited in place.
        tensors: Tensors that lost a reader or their producer; from these the search goes back.
    """
    graph = model.graph
    pending = {name for name in tensors if name}
    outputs = {output.name for output in graph.output}
    while pending:
        used = set().union(outputs, *(reads(node) for node in graph.node))
        unused = {name for name in pending if name not in used}
        pending = set()
        for index in reversed(range(len(graph.node))):
            node = graph.node[index]
            made = {name for name in node.output if name}
            if made and made & unused and not made & used:
                pending |= {name for name in node.input if name}
                unused |= made  # a mask beside the output has a recorded shape, too
                del graph.node[index]
        filled = {tensor.name for tensor in graph.initializer}
        for values in (graph.input, graph.initializer, graph.value_info):
            for index in reversed(range(len(values))):
                name = values[index].name
                if name in unused and (name in filled or values is not graph.input):
                    del values[index]


def unique_name(model: onnx.ModelProto, wanted: str, taken: Iterable[str] = ()) -> str:
    """Return `wanted`, with a number where the graph or `taken` has a tensor of that name."""
    graph = model.graph
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {value.name for value in (*graph.initializer, *graph.input, *graph.output)}
    names |= set(taken)
    candidate, number = wanted, 1
    while candidate in names:
        number += 1
        candidate = f"{wanted}_{number}"
    return candidate


class NameMaker:
    """Gives out names that neither the model nor an earlier call has.

    Args:
        model: The model.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._taken: list[str] = []

    def __call__(self, wanted: str) -> str:
        """Return `wanted`, with a number where it is taken."""
        name = unique_name(self._model, wanted, self._taken)
        self._taken.append(name)
        return name
