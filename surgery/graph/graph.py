"""A model and what is known of it: who makes and reads each tensor, and what others found out.

Everything is worked out at its first use and kept. So functions hand a `Graph` on, and not its
model; whoever edits the model calls `changed`, and all that was found out is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import TypeVar

import numpy as np
import onnx

from anysize.errors import AnysizeError
from anysize.surgery.graph.nodes import attribute, reads
from anysize.surgery.storage import small_array, weight_free

__all__ = ["Graph", "Model"]

_Found = TypeVar("_Found")


class Graph:
    """A model's main graph, and what has been found out about it.

    Attributes:
        model: The model; nodes and tensors handed out are its own messages.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._found: dict[Hashable, object] = {}
        # Tensors are the model's own; a copy has others.
        self._own: dict[str, onnx.TensorProto] | None = None

    @classmethod
    def of(cls, model: Model) -> Graph:
        """Return `model` where it is a graph, with all that is known of it, else a new one."""
        return model if isinstance(model, Graph) else cls(model)

    def found(self, what: Hashable, find: Callable[[], _Found]) -> _Found:
        """Return what `find` finds out, asked for the first time only; errors are kept as well.

        Args:
            what: Names it: whoever asks, and with which arguments.
            find: Works it out from the model alone.
        """
        if what not in self._found:
            try:
                self._found[what] = find()
            except AnysizeError as exc:
                self._found[what] = exc
        known = self._found[what]
        if isinstance(known, AnysizeError):
            raise known
        return known  # type: ignore[return-value]

    def changed(self, edits: object = None) -> None:  # noqa: ARG002
        """Forget what was found out, since the model was edited.

        Args:
            edits: What was done, for a graph that remembers it.
        """
        self._found = {}
        self._own = None

    def knows_as(self, original: Graph) -> None:
        """Share what is found out with `original`, of which this is a copy, until it is edited."""
        self._found = original._found

    def light(self) -> Graph:
        """Return a weight-free copy, which shares what is found out until one is edited."""
        copy = Graph(weight_free(self.model))
        copy.knows_as(self)
        return copy

    @property
    def _makers(self) -> dict[str, int]:
        """Tensor → the node that makes it."""
        return self.found("makers", self._find_makers)

    def _find_makers(self) -> dict[str, int]:
        makers: dict[str, int] = {}
        for index, node in enumerate(self.model.graph.node):
            for output in node.output:
                makers.setdefault(output, index)
        makers.pop("", None)
        return makers

    @property
    def _readers(self) -> dict[str, tuple[int, ...]]:
        """Tensor → the nodes that read it."""
        return self.found("readers", self._find_readers)

    def _find_readers(self) -> dict[str, tuple[int, ...]]:
        readers: dict[str, tuple[int, ...]] = {}
        for index, node in enumerate(self.model.graph.node):
            for name in reads(node):
                readers[name] = (*readers.get(name, ()), index)
        return readers

    @property
    def _initializers(self) -> dict[str, onnx.TensorProto]:
        if self._own is None:
            self._own = {tensor.name: tensor for tensor in self.model.graph.initializer}
        return self._own

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes of the main graph, in file order (which is a topological order)."""
        return list(self.model.graph.node)

    def node(self, index: int) -> onnx.NodeProto:
        """Return node number `index`."""
        node: onnx.NodeProto = self.model.graph.node[index]
        return node

    def label(self, index: int) -> str:
        """Name a node for a message: its name, or its operator and number."""
        node = self.node(index)
        return f"node {node.name!r}" if node.name else f"node #{index} ({node.op_type})"

    def names(self, index: int) -> tuple[str, ...]:
        """Return what a node can be called by: its name, if it has one, and what it makes."""
        node = self.node(index)
        return tuple(name for name in (node.name, *node.output) if name)

    def producer(self, tensor: str) -> int | None:
        """Return the index of the node that makes `tensor`; None for inputs and initializers."""
        return self._makers.get(tensor)

    def consumers(self, tensor: str) -> tuple[int, ...]:
        """Return the indices of the main graph's nodes that read `tensor`, in file order.

        A node whose subgraph reads the tensor counts as a reader.
        """
        return self._readers.get(tensor, ())

    def is_graph_output(self, tensor: str) -> bool:
        """Say whether `tensor` leaves the graph."""
        return any(output.name == tensor for output in self.model.graph.output)

    def initializer(self, name: str) -> onnx.TensorProto | None:
        """Return the initializer called `name`."""
        return self._initializers.get(name)

    def constant(self, name: str) -> onnx.TensorProto | None:
        """Return the tensor behind `name`: an initializer or a Constant node, through Identity."""
        for _ in range(len(self.model.graph.node) + 1):
            if name in self._initializers:
                return self._initializers[name]
            index = self.producer(name)
            if index is None:
                return None
            node = self.node(index)
            if node.op_type == "Constant":
                value = attribute(node, "value")
                return value if isinstance(value, onnx.TensorProto) else None
            if node.op_type != "Identity":
                return None
            name = node.input[0]
        return None

    def small_constant(self, name: str) -> np.ndarray | None:
        """Return the value behind `name` where it is a small constant."""
        tensor = self.constant(name)
        return None if tensor is None else small_array(tensor)

    def integers(self, node: onnx.NodeProto, name: str, position: int) -> tuple[int, ...] | None:
        """Return what a node has as attribute `name` or, in later opsets, as input `position`.

        Returns:
            The integers, none where it has neither; None where they are computed.
        """
        given = attribute(node, name)
        if given is None and len(node.input) > position and node.input[position]:
            value = self.small_constant(node.input[position])
            given = None if value is None else value.ravel().tolist()
            if given is None:
                return None
        return tuple(int(number) for number in given) if isinstance(given, list) else ()

    def upstream(self, *tensors: str, until: Collection[str] = ()) -> set[int]:
        """Return the indices of the nodes that `tensors` are computed from.

        Args:
            tensors: Where the search begins.
            until: Tensors that are taken as given: what makes them does not count.
        """
        seen: set[int] = set()
        pending = list(tensors)
        while pending:
            name = pending.pop()
            index = None if name in until else self.producer(name)
            if index is None or index in seen:
                continue
            seen.add(index)
            pending += reads(self.node(index))
        return seen

    def downstream(self, tensor: str) -> set[int]:
        """Return the indices of the nodes that depend on `tensor`."""
        reached = {tensor}
        seen: set[int] = set()
        for index, node in enumerate(self.nodes):
            if reached & reads(node):
                seen.add(index)
                reached.update(name for name in node.output if name)
        return seen


# What a function takes that only reads a model, or edits it in one step.
Model = onnx.ModelProto | Graph
