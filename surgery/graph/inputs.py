"""What a model declares: its opset, its inputs, and which of them is the image."""

from __future__ import annotations

import onnx

from anysize.errors import UnsupportedModelError
from anysize.words import shape_text

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
    got = ", ".join(map(_described, values)) or "none"
    raise UnsupportedModelError(
        f"graph inputs: got {got}, expected an image, which has two sides: "
        "(batch, channels, height, width)"
    )


def _described(value: onnx.ValueInfoProto) -> str:
    """Name an input, and its axes where they are declared."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return repr(value.name)
    axes = (axis.dim_param or axis.dim_value or "?" for axis in kind.shape.dim)
    return f"{value.name!r} {shape_text(axes)}"
