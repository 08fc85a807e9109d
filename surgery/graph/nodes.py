"""One node: its attributes, its subgraphs, and the tensors that it reads."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

__all__ = ["attribute", "reads", "set_attributes", "subgraphs"]


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Return the value of a node's attribute, bytes decoded, or `default` where it is absent."""
    for entry in node.attribute:
        if entry.name == name:
            value: object = onnx.helper.get_attribute_value(entry)
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return default


def set_attributes(node: onnx.NodeProto, **values: int | list[int]) -> None:
    """Give attributes a value; one that has it already stays where it is."""
    for name, value in values.items():
        if attribute(node, name) == value:
            continue
        others = [entry for entry in node.attribute if entry.name != name]
        del node.attribute[:]
        node.attribute.extend([*others, onnx.helper.make_attribute(name, value)])


def reads(node: onnx.NodeProto) -> set[str]:
    """Name all tensors that a node reads, those of its subgraphs among them.

    A few too many where a subgraph has a tensor of its own of that name.
    """
    names = set(node.input)
    for graph in subgraphs(node):
        names.update(output.name for output in graph.output)
        for inner in graph.node:
            names |= reads(inner)
    return names - {""}


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that are attributes of a node, such as the branches of an If."""
    for entry in node.attribute:
        if entry.HasField("g"):
            yield entry.g
        yield from entry.graphs
