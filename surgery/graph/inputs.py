"""What a model declares: its opset, its inputs, and which of them is the image."""

from __future__ import annotations

import onnx

from anysize.errors import UnsupportedModelError
from anysize.sizes import MAX_SIDE, Size
from anysize.surgery.graph.graph import Graph
from anysize.surgery.graph.nodes import attribute

__all__ = [
    "channels_last_reader",
    "channels_last_words",
    "image_input",
    "opset_version",
    "required_inputs",
    "static_size",
]


def opset_version(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that the model imports."""
    versions = [int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return versions[0]


def required_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the graph inputs that no initializer fills (before IR version 4 all are listed)."""
    filled = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in filled]


def image_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """Return the graph's image input: the first of rank 4 that no initializer fills.

    Raises:
        UnsupportedModelError: There is none.
    """
    values = required_inputs(model)
    for value in values:
        shape = value.type.tensor_type.shape
        if value.type.tensor_type.HasField("shape") and len(shape.dim) == 4:
            return value
    got = ", ".join(repr(value.name) for value in values) or "none"
    raise UnsupportedModelError(
        f"graph inputs: got {got}, expected an image input of shape "
        "(batch, channels, height, width)"
    )


def channels_last_reader(graph: Graph) -> int | None:
    """Return the Transpose that puts an image's channels first, of a graph that takes them last."""
    for index in graph.consumers(image_input(graph.model).name)[:1]:
        node = graph.node(index)
        if node.op_type == "Transpose" and attribute(node, "perm") == [0, 3, 1, 2]:
            return index
    return None


def channels_last_words(name: str) -> str:
    """Say what is wrong with an input `(batch, height, width, channels)`, and what to do."""
    return (
        f"input {name!r} has its channels last, expected (batch, channels, height, width); export "
        f"with them first (tf2onnx: --inputs-as-nchw {name})"
    )


def static_size(model: onnx.ModelProto) -> Size | None:
    """Return the height and width that the image input declares; None where they are symbolic."""
    dims = image_input(model).type.tensor_type.shape.dim
    height, width = dims[2].dim_value, dims[3].dim_value
    if 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE:
        return Size(height, width)
    return None
