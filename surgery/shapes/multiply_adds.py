"""What a graph costs: multiplications with an addition, counted from the shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx

from anysize.sizes import Size
from anysize.surgery.graph import Graph, Model
from anysize.surgery.shapes.rules import Shape
from anysize.surgery.shapes.walk import shapes_at

__all__ = ["multiply_adds"]

_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})
_PRODUCTS = frozenset({"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"})
# Where the kernel, or the right matrix, of an operator stands, if not behind the left one.
_SECOND = {"QLinearConv": 3, "QLinearMatMul": 3}


def multiply_adds(model: Model, size: Size, batch: int = 1) -> Mapping[str, int]:
    """Count the multiply-adds of convolutions and matrix products, layer by layer.

    Two floating-point operations each, as hardware and papers count them: a k×k convolution takes
    k²·C/groups for each number that it makes. All other operators count as nothing.

    Args:
        model: Not modified; its weights are not read.
        size: Height and width of the images.
        batch: Number of images.

    Returns:
        Tensor name → multiply-adds of the layer that makes it. One whose shapes cannot be known
        without running is absent.

    Raises:
        IllegalSizeError: The graph does not take images of this size.
        UnsupportedModelError: The graph has no image input.
    """
    graph = Graph.of(model)
    shapes = shapes_at(graph, size, batch)
    counted = ((node.output[0], _layer(node, shapes)) for node in graph.nodes if node.output)
    return {name: count for name, count in counted if count}


def _layer(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int:
    second = _SECOND.get(node.op_type, 1)
    if len(node.input) <= second:
        return 0
    left, right = shapes.get(node.input[0]), shapes.get(node.input[second])
    made = shapes.get(node.output[0])
    if left is None or right is None or made is None:
        return 0
    if node.op_type in _CONVOLUTIONS:
        return math.prod(made) * math.prod(right[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    if node.op_type in _PRODUCTS:  # each number that is made adds up as many as the weight is long
        is_turned = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(made) * left[0 if is_turned else -1]
    return 0
