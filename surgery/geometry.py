"""Where a map cell looks: stride, offset and receptive field, in pixels of the image.

The standard receptive-field arithmetic (Araujo, Norris, Sim, "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019), per axis. Pixel i covers [i, i + 1), so the centre
of a window over pixels 0 to 31 is 16.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from anysize.surgery.graph import Graph, Model, attribute, image_input
from anysize.surgery.shapes import POOLING, SHAPE_KEEPING, sliding_windows
from anysize.surgery.size_guard import is_guard

__all__ = ["MapGeometry", "map_geometry"]

_POINTWISE = SHAPE_KEEPING | {
    "Add", "Concat", "Div", "Max", "Mean", "Min", "Mul", "Sub", "Sum",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MapGeometry:
    """How the cells of a map lie on the image; each pair is (height, width), in pixels.

    Attributes:
        stride: Distance between neighbouring cells.
        offset: Centre of the receptive field of cell (0, 0); below zero where padding reaches
            further than the image.
        receptive_field: Side of the window that one cell sees, padding included.
    """

    stride: tuple[int, int]
    offset: tuple[float, float]
    receptive_field: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Reach:
    """One axis: cell 0 sees pixels [start, end), cell i those `i · stride` further on."""

    stride: int
    start: int
    end: int


_Reaches = tuple[_Reach, _Reach]
_PIXEL = _Reach(stride=1, start=0, end=1)


def map_geometry(model: Model, tensor: str) -> MapGeometry | None:
    """Work out how a `(batch, channels, map_height, map_width)` tensor lies on the image.

    Branches are joined by the union of what they see; they must have equal strides.

    Args:
        model: Not modified; only the dims of weights are read.
        tensor: Name of the map.

    Returns:
        The geometry, or None where an operator on the way has none: a global pooling, a Resize,
        a pooling with bins that depend on the size.

    Raises:
        UnsupportedModelError: The graph has no image input.
    """
    graph = Graph.of(model)
    source = image_input(graph.model).name
    reaches: dict[str, _Reaches | None] = {source: (_PIXEL, _PIXEL)}
    for index in sorted(graph.upstream(tensor)):
        node = graph.node(index)
        if node.op_type in ("Shape", "Size"):  # knows the image's size and none of its pixels
            continue
        incoming = [reaches[name] for name in node.input if name in reaches]
        if not incoming:
            continue
        known = [entry for entry in incoming if entry is not None]
        result = _advance(graph, index, known) if len(known) == len(incoming) else None
        reaches.update(dict.fromkeys(node.output, result))
    found = reaches.get(tensor)
    if found is None:
        return None
    height, width = found
    return MapGeometry(
        stride=(height.stride, width.stride),
        offset=((height.start + height.end) / 2, (width.start + width.end) / 2),
        receptive_field=(height.end - height.start, width.end - width.start),
    )


def _advance(graph: Graph, index: int, incoming: list[_Reaches]) -> _Reaches | None:
    node = graph.node(index)
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in _POINTWISE:
        if node.op_type in ("Softmax", "LogSoftmax", "Concat") and not _is_on_channels(node):
            return None
        joined = incoming[0]
        for other in incoming[1:]:
            pair = tuple(_union(a, b) for a, b in zip(joined, other, strict=True))
            if pair[0] is None or pair[1] is None:
                return None
            joined = (pair[0], pair[1])
        return joined
    if is_guard(graph, index):
        return incoming[0]
    if node.op_type == "Pad":
        return _padded(graph, node, incoming[0])
    if node.op_type == "Conv" or node.op_type in POOLING:
        return _windowed(graph, node, incoming[0])
    return None


def _windowed(graph: Graph, node: onnx.NodeProto, incoming: _Reaches) -> _Reaches | None:
    weight = graph.constant(node.input[1]) if node.op_type == "Conv" else None
    windows = sliding_windows(node, weight.dims[2:] if weight is not None else None)
    if len(windows) != 2:
        return None
    result = []
    for reach, window in zip(incoming, windows, strict=True):
        begin = window.pad_begin
        if window.is_same:
            if window.stride > 1:  # the padding depends on the image's size
                return None
            total = window.extent - 1
            is_lower = attribute(node, "auto_pad") == "SAME_LOWER"
            begin = total - total // 2 if is_lower else total // 2
        start = reach.start - begin * reach.stride
        end = reach.end + (window.extent - 1 - begin) * reach.stride
        result.append(_Reach(reach.stride * window.stride, start, end))
    return result[0], result[1]


def _padded(graph: Graph, node: onnx.NodeProto, incoming: _Reaches) -> _Reaches | None:
    pads = attribute(node, "pads")
    if pads is None and len(node.input) > 1:
        constant = graph.small_constant(node.input[1])
        pads = None if constant is None else constant.tolist()
    is_constant = attribute(node, "mode", "constant") == "constant"
    has_axes = len(node.input) > 3 and bool(node.input[3])
    if not is_constant or has_axes or not isinstance(pads, list) or len(pads) != 8:
        return None
    moved = [
        _Reach(r.stride, r.start - pad * r.stride, r.end - pad * r.stride)
        for r, pad in zip(incoming, pads[2:4], strict=True)
    ]
    return moved[0], moved[1]


def _is_on_channels(node: onnx.NodeProto) -> bool:
    return attribute(node, "axis", -1) in (1, -3)


def _union(a: _Reach, b: _Reach) -> _Reach | None:
    if a.stride != b.stride:
        return None
    return _Reach(a.stride, min(a.start, b.start), max(a.end, b.end))
