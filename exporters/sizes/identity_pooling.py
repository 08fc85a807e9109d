"""Adaptive pooling in front of FC layers that changes nothing at the training size.

torchvision's AlexNet pools its 6×6 map to 6×6, its VGG 7×7 to 7×7. As it stands such a network
takes any size. To slide its FC layers over a larger map, the pooling is left out, as the identity
that it was in training.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from anysize.bisection import lowest
from anysize.errors import ExportError
from anysize.exporters.tracing import DOMAIN
from anysize.sizes import MAX_SIDE, Size, SizeRange
from anysize.surgery import legal_interval
from anysize.surgery.graph import Graph
from anysize.surgery.shapes import IllegalSizeError, ShapeWalk

__all__ = ["drop_identity_pooling"]

_POOLS = ("AdaptiveAveragePool2d", "AdaptiveMaxPool2d")
_FLATTENS = ("Flatten", "Reshape", "Squeeze")


def drop_identity_pooling(
    model: onnx.ModelProto, *, name: str, size: Size, is_needed: bool
) -> None:
    """Leave out, in place, adaptive pooling between the last map and the flatten.

    Args:
        model: A traced graph whose placeholders are not lowered yet.
        name: How messages call the module.
        size: The training size, at which it was traced.
        is_needed: Refuse pooling that is something else; it is left alone otherwise.

    Raises:
        ExportError: The pooling is not the identity at this size; the message names the layer and,
            where there are any, the sizes at which it is.
    """
    graph = model.graph
    shapes = _static_shapes(graph)
    for node in list(graph.node):
        if node.domain != DOMAIN or node.op_type not in _POOLS:
            continue
        readers = [other for other in graph.node if node.output[0] in other.input]
        is_flattened = all(
            other.op_type in _FLATTENS and len(shapes.get(other.output[0], ())) == 2
            for other in readers
        )
        if not readers or not is_flattened:
            continue
        before, after = shapes[node.input[0]], shapes[node.output[0]]
        if before != after and not is_needed:
            continue
        if before != after:
            raise ExportError(_not_identity(model, node, before, after, name=name, size=size))
        for other in readers:
            other.input[0] = node.input[0]
        graph.node.remove(node)


def _static_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }


def _not_identity(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    before: tuple[int, ...],
    after: tuple[int, ...],
    *,
    name: str,
    size: Size,
) -> str:
    wanted = Size(after[2], after[3])
    sizes = _sizes_of(model, node.input[0], wanted)
    layer = f"{name}: layer {node.name!r}" if node.name else name
    story = (
        f"{layer} pools the {before[2]}x{before[3]} map of a {size} image to {wanted}, so its FC "
        "layers saw no window of the map in training; "
    )
    if sizes is not None:
        story += f"trained at {sizes}, it would be the identity: give that --size, or "
    return f"{story}--head as-is, which takes any size already"


def _sizes_of(model: onnx.ModelProto, tensor: str, wanted: Size) -> SizeRange | None:
    """Find the images whose map `tensor` is `wanted` in height and width."""
    walk = ShapeWalk(Graph(model), [tensor])

    def sides(image: Size) -> tuple[int, ...]:
        try:
            return (walk.shapes(image).get(tensor) or (0, 0, 0, 0))[2:]
        except IllegalSizeError:
            return (0, 0)

    def reaches(axis: int, side: int) -> Callable[[int], bool]:
        # A map does not shrink when its image grows.
        return lambda image_side: sides(Size(image_side, image_side))[axis] >= side

    image = Size(
        lowest(reaches(0, wanted.height), MAX_SIDE), lowest(reaches(1, wanted.width), MAX_SIDE)
    )
    if sides(image) != (wanted.height, wanted.width):
        return None
    return legal_interval(model, tensor, image)
