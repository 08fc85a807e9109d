"""The matrix behind a linear layer's weight input, whatever stands between them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from anysize.surgery.graph import GraphView, attribute

__all__ = ["Constant", "find_constant"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant as a node sees it.

    Attributes:
        root: The initializer, or output of the Constant node, that holds the elements.
        dims: Dims of the root.
        is_transposed: Whether the node sees the root, a matrix, transposed.
        is_shared: Whether something else reads the root, or a tensor between, too.
    """

    root: str
    dims: tuple[int, ...]
    is_transposed: bool
    is_shared: bool

    @property
    def seen_dims(self) -> tuple[int, ...]:
        """Dims as the node sees them."""
        return self.dims[::-1] if self.is_transposed else self.dims


def find_constant(view: GraphView, name: str) -> Constant | None:
    """Follow `name` back to a constant; None where it is computed from something else.

    Spellings: initializer, Constant node, Identity of either, Transpose of a matrix. One more
    spelling is one more case in this loop.
    """
    is_transposed, is_shared = False, False
    for _ in range(len(view.nodes) + 1):
        readers = view.consumers(name)
        times = sum(list(view.node(index).input).count(name) for index in readers)
        is_shared = is_shared or times > 1 or view.is_graph_output(name)
        tensor = view.initializer(name)
        if tensor is not None:
            return Constant(name, tuple(tensor.dims), is_transposed, is_shared)
        index = view.producer(name)
        if index is None:
            return None
        node = view.node(index)
        if node.op_type == "Constant":
            value = attribute(node, "value")
            if not isinstance(value, onnx.TensorProto):
                return None
            return Constant(name, tuple(value.dims), is_transposed, is_shared)
        if node.op_type == "Transpose" and attribute(node, "perm", [1, 0]) == [1, 0]:
            is_transposed = not is_transposed
        elif node.op_type != "Identity":
            return None
        name = node.input[0]
    return None
