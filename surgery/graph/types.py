"""What onnx's own inference says of a graph's tensors."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from anysize.surgery.graph.graph import Graph
from anysize.surgery.graph.inputs import image_input
from anysize.surgery.storage import inferred_values

__all__ = ["element_type", "inferred"]


def inferred(graph: Graph) -> Mapping[str, onnx.ValueInfoProto]:
    """Return type, rank and sides of every tensor, as far as onnx knows them."""
    return graph.found("inferred", lambda: inferred_values(graph.model))


def element_type(graph: Graph, tensor: str) -> int:
    """Return the element type of a tensor; that of the image where it is not known."""
    known = inferred(graph).get(tensor, image_input(graph.model))
    return int(known.type.tensor_type.elem_type)
