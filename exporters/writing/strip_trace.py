"""Take out of a traced graph what only the tracer needs."""

from __future__ import annotations

import onnx

__all__ = ["drop_unused_initializers", "tidy"]


def _drop_default_attributes(node: onnx.NodeProto, opset: int) -> None:
    """Remove attributes that repeat the operator's default: torch.onnx spells out every one."""
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    for index in reversed(range(len(node.attribute))):
        attribute = node.attribute[index]
        known = schema.attributes.get(attribute.name)
        if known is None or not known.default_value.name:
            continue
        value, default = (
            onnx.helper.get_attribute_value(attribute),
            onnx.helper.get_attribute_value(known.default_value),
        )
        if value == default:
            del node.attribute[index]


def tidy(model: onnx.ModelProto) -> None:
    """Remove, in place, source lines, paths and module names of the tracer, and spelt-out defaults.

    A traced graph carries the user's source code lines and file paths in `metadata_props`; a file
    that ships must not.
    """
    graph = model.graph
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    del graph.metadata_props[:]
    for entry in (*graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del entry.metadata_props[:]
        entry.ClearField("doc_string")
    for node in graph.node:
        if not node.domain:
            _drop_default_attributes(node, opset)


def drop_unused_initializers(model: onnx.ModelProto) -> None:
    """Remove, in place, initializers that no node reads."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    used |= {output.name for output in graph.output}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]
