"""A guard that makes every runtime refuse images below the smallest legal size."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size
from anysize.surgery.graph import GraphView, image_input, opset_version

__all__ = ["guard_min_size", "is_guard"]

_NAME = "anysize_min_size"
# Shape gained its `start` attribute here.
_SHAPE_START_OPSET = 15


def guard_min_size(model: onnx.ModelProto, size: Size) -> onnx.ModelProto:
    """Make the graph fail for images lower or narrower than `size`, and leave all others alone.

    Runtimes differ below the smallest size: ONNX Runtime's MaxPool answers 1×1 for a 1×1 map
    where PyTorch refuses. The guard reshapes the input to `(batch, channels,
    max(height, minimum), max(width, minimum))`: nothing at a legal size, an element count that
    does not match below. A graph that has a guard gets the new size written into it.

    Args:
        model: Edited in place.
        size: The smallest legal image.

    Returns:
        `model` itself.

    Raises:
        UnsupportedModelError: No image input, or its number of channels is not declared.
    """
    source = image_input(model)
    minimum = onnx.numpy_helper.from_array(
        np.array([size.height, size.width], np.int64), f"{_NAME}_smallest"
    )
    for tensor in model.graph.initializer:
        if tensor.name == minimum.name:
            tensor.CopyFrom(minimum)
            return model
    channels = source.type.tensor_type.shape.dim[1].dim_value
    if channels < 1:
        raise UnsupportedModelError(
            f"input {source.name!r}: channels are not declared; expected a number in axis 1"
        )
    guarded = f"{_NAME}_image"
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == source.name:
                node.input[position] = guarded
    keep = onnx.numpy_helper.from_array(np.array([0, channels], np.int64), f"{_NAME}_keep")
    nodes, tensors = _guard_nodes(source.name, guarded, opset_version(model))
    for offset, node in enumerate(nodes):
        model.graph.node.insert(offset, node)
    model.graph.initializer.extend([minimum, keep, *tensors])
    return model


def _guard_nodes(
    image: str, guarded: str, opset: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    def make(op: str, part: str, inputs: list[str], output: str, **attributes: object) -> None:
        nodes.append(
            onnx.helper.make_node(op, inputs, [output], name=f"{_NAME}_{part}", **attributes)
        )

    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    sides, target = f"{_NAME}_sides", f"{_NAME}_target"
    if opset >= _SHAPE_START_OPSET:
        make("Shape", "shape", [image], sides, start=2)
    else:
        last = onnx.numpy_helper.from_array(np.array([2, 3], np.int64), f"{_NAME}_axes")
        tensors.append(last)
        make("Shape", "shape", [image], f"{_NAME}_shape")
        make("Gather", "gather", [f"{_NAME}_shape", last.name], sides, axis=0)
    make("Max", "max", [sides, f"{_NAME}_smallest"], f"{_NAME}_larger")
    make("Concat", "concat", [f"{_NAME}_keep", f"{_NAME}_larger"], target, axis=0)
    make("Reshape", "reshape", [image, target], guarded)
    return nodes, tensors


def is_guard(view: GraphView, index: int) -> bool:
    """Say whether a node is the Reshape of a guard, which changes nothing at a legal size."""
    node = view.node(index)
    if node.op_type != "Reshape" or len(node.input) != 2:
        return False
    concat = view.producer(node.input[1])
    if concat is None or view.node(concat).op_type != "Concat":
        return False
    parts = view.node(concat).input
    keep = view.small_constant(parts[0])
    larger = view.producer(parts[-1])
    if keep is None or keep.shape != (2,) or keep[0] != 0 or larger is None:
        return False
    return node.input[0] == image_input(view.model).name and view.node(larger).op_type == "Max"
