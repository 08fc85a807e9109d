"""What a fully convolutional graph hands out, read from the ranks of its outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from anysize.surgery.targets import Output

__all__ = ["is_map", "output_layout"]


def output_layout(candidate: onnx.ModelProto, original: onnx.ModelProto | None = None) -> Output:
    """Tell what a fully convolutional graph hands out, from the ranks of its outputs.

    Args:
        candidate: The graph.
        original: What it was made of: with it, outputs of the two that need no conversion count
            for nothing.
    """
    outputs = list(candidate.graph.output)
    if original is not None and len(outputs) == len(original.graph.output):
        pairs = zip(original.graph.output, outputs, strict=True)
        changed = (is_map(after) and not _is_declared_map(before) for before, after in pairs)
        return "map" if any(changed) else "logits"
    maps = [is_map(output) for output in outputs]
    if any(maps) and not all(maps):
        return "both"
    return "map" if any(maps) else "logits"


def _is_declared_map(output: onnx.ValueInfoProto) -> bool:
    return output.type.tensor_type.HasField("shape") and is_map(output)


def is_map(output: onnx.ValueInfoProto) -> bool:
    """Whether an output of a fully convolutional graph is a map; one without a shape is."""
    declared = output.type.tensor_type
    if not declared.HasField("shape"):
        return True
    # The map of an ArgMax without an axis for the classes has three.
    dims = declared.shape.dim
    return len(dims) == 4 or any(dim.dim_param == "map_height" for dim in dims)
