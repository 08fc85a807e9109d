"""What a model declares: its opset, its inputs, and which of them is the image."""

from __future__ import annotations

import onnx

from anysize.errors import UnsupportedModelError

__all__ = [
    "image_input",
    "opset_version",
    "required_inputs",
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
