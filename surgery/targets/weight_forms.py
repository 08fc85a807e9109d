"""Constants in the form that a rewritten layer reads, moving no more bytes than must move."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx

from anysize.surgery.graph import Derived, Edits, Graph, NameMaker, set_attributes
from anysize.surgery.heads import Constant, Linear, Pointwise, declined
from anysize.surgery.storage import copy_fields

__all__ = ["Placed", "WeightForms"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A constant in the form that a layer reads.

    Attributes:
        name: Name of the weight's tensor.
        nodes: What stays between the stored tensor and that one, such as DequantizeLinear; to be
            put before the layer.
    """

    name: str
    nodes: tuple[onnx.NodeProto, ...] = ()


class WeightForms:
    """Plans the constants of one rewrite.

    Args:
        graph: The graph.
        edits: Receives new dims and derived tensors.
        names: Gives out names.
    """

    def __init__(self, graph: Graph, edits: Edits, names: NameMaker) -> None:
        self._graph = graph
        self._edits = edits
        self._names = names
        self._derived: dict[object, str] = {}

    def place(
        self,
        layer: Linear | Pointwise,
        constant: Constant,
        *,
        dims: tuple[int, ...] | None = None,
        scale: float = 1.0,
    ) -> Placed:
        """Return the tensor that holds `constant` with these dims.

        Args:
            layer: The layer that reads it.
            constant: The constant, as the layer shall see it.
            dims: Its dims, where one element shall be spread over them.
            scale: Factor on its elements.

        Raises:
            DeclinedError: The elements are changed by nodes behind the factor.
        """
        dims = dims or constant.dims
        if constant.values and scale != 1.0:
            raise declined(
                self._graph,
                layer.nodes[0],
                f"scales {constant.root!r}, which is quantised or cast, by {scale:g}; expected 1",
            )
        if not self._moves(constant, dims) and constant.root_dims == dims and scale == 1.0:
            return Placed(constant.name if constant.values else constant.root)
        reason = self._reason(layer, constant, dims, scale)
        if reason:
            root = self._derive(constant, dims, scale, f"{layer.label} {reason}")
        else:
            self._edits.dims[constant.root] = dims
            root = constant.root
        return self._valued(constant, root)

    def _moves(self, constant: Constant, dims: tuple[int, ...]) -> bool:
        return bool(constant.turns) or math.prod(constant.root_dims) != math.prod(dims)

    def _reason(
        self, layer: Linear | Pointwise, constant: Constant, dims: tuple[int, ...], scale: float
    ) -> str:
        """Say why the bytes cannot stay where they are; empty where they can."""
        if constant.turns:
            is_plain = len(constant.root_dims) == 2 and constant.root_dims[0] != dims[0]
            order = "as (in, out)" if is_plain else "in another order"
            return f"stores its weight {order}"
        if scale != 1.0:
            what = "bias" if isinstance(layer, Linear) and constant is layer.bias else "weight"
            return f"scales its {what} by {scale:g}"
        if math.prod(constant.root_dims) != math.prod(dims):
            return "has one bias for all units"
        done = self._edits.dims.get(constant.root)
        if constant.is_shared or (done is not None and done != dims):
            return f"shares {constant.root!r} with another"
        return ""

    def _derive(self, constant: Constant, dims: tuple[int, ...], scale: float, reason: str) -> str:
        key = (constant.root, constant.turns, dims, scale)
        if key not in self._derived:
            name = self._derived[key] = self._names(f"{constant.root}_conv")
            self._edits.derived.append(
                Derived(name, constant.root, dims, reason, turns=constant.turns, scale=scale)
            )
        return self._derived[key]

    def convolution(self, layer: Linear, data: str, output: str) -> list[onnx.NodeProto]:
        """Write a linear layer as a convolution over a map, with what its constants need.

        Args:
            layer: The layer; its nodes go.
            data: The map that it reads.
            output: The map that it makes.
        """
        inputs = [self.place(layer, layer.weight, scale=layer.alpha)]
        if layer.bias is not None:
            dims = (layer.out_features,)
            inputs.append(self.place(layer, layer.bias, dims=dims, scale=layer.beta))
        names = [data, *(one.name for one in inputs)]
        kernel = layer.weight.dims[2:] or (1, 1)
        conv = onnx.helper.make_node("Conv", names, [output], kernel_shape=kernel)
        old = self._graph.node(layer.nodes[0])
        copy_fields(old, conv, leave_out=("op_type", "input", "output", "attribute"))
        self._edits.nodes.update(dict.fromkeys(layer.nodes, ()))
        return [*(node for one in inputs for node in one.nodes), conv]

    def _valued(self, constant: Constant, tensor: str) -> Placed:
        """Put the nodes that change each element behind `tensor`."""
        nodes = []
        for index, axis in zip(constant.values, constant.scale_axes, strict=True):
            old, node = self._graph.node(index), onnx.NodeProto()
            node.CopyFrom(old)
            node.input[0] = tensor
            tensor = node.output[0] = self._names(f"{old.output[0]}_conv")
            if constant.is_shared and node.name:
                node.name = f"{node.name}_conv"
            if axis is not None:
                set_attributes(node, axis=axis)
            nodes.append(node)
        return Placed(tensor, tuple(nodes))
