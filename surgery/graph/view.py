"""A model's graph to walk: who makes a tensor, who reads it, what is constant.

onnx_graphsurgeon supplies the links, read lazily so that no weight is touched. A round trip
through it would drop metadata, doc strings and order, so nothing is ever written back: edits go
to the ModelProto (`anysize.surgery.edit`), and the view points at its nodes by index.
"""

from __future__ import annotations

import functools
from collections.abc import Collection

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger import G_LOGGER

from anysize.errors import UnsupportedModelError
from anysize.surgery.graph.nodes import attribute, reads
from anysize.surgery.storage import small_array
from anysize.words import one_line

__all__ = ["GraphView"]


class GraphView:
    """The links of a model's main graph, as they are when the first of them is asked for.

    Edits make a view stale: build another.

    Attributes:
        model: The model that is viewed; nodes and tensors handed out are its own messages.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._initializers: dict[str, onnx.TensorProto] = {
            tensor.name: tensor for tensor in model.graph.initializer
        }

    @functools.cached_property
    def _makers(self) -> dict[str, int]:
        """Tensor → the node that makes it; 4 ms for VGG-16, which most views are not asked for."""
        try:
            with G_LOGGER.suppress():
                graph = gs.import_onnx(self.model)
        except Exception as exc:  # graphsurgeon raises whatever its parts raise
            raise UnsupportedModelError(f"graph cannot be walked: {one_line(exc)}") from exc
        makers: dict[str, int] = {}
        for index, node in enumerate(graph.nodes):
            for output in node.outputs:
                makers.setdefault(output.name, index)
        return makers

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

    def producer(self, tensor: str) -> int | None:
        """Return the index of the node that makes `tensor`; None for inputs and initializers.

        Raises:
            UnsupportedModelError: graphsurgeon cannot import the graph.
        """
        return self._makers.get(tensor) if tensor else None

    def consumers(self, tensor: str) -> tuple[int, ...]:
        """Return the indices of the main graph's nodes that read `tensor`, in file order.

        A node whose subgraph reads the tensor counts as a reader.
        """
        return tuple(
            index for index, node in enumerate(self.model.graph.node) if tensor in reads(node)
        )

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
        made_by = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        seen: set[int] = set()
        pending = list(tensors)
        while pending:
            name = pending.pop()
            index = None if name in until else made_by.get(name)
            if index is None or index in seen:
                continue
            seen.add(index)
            node = self.node(index)
            pending += reads(node)
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
