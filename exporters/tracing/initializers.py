"""Constants that are added to a traced graph."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["add_initializer"]


def add_initializer(graph: ir.Graph, wanted: str, tensor: ir.TensorProtocol) -> ir.Value:
    """Add a constant under the name `wanted`, lengthened where the graph has that one already."""
    name = wanted
    while name in graph.initializers:
        name = f"{name}_own"
    tensor.name = name
    value = ir.val(name, const_value=tensor)
    graph.initializers.add(value)
    return value
