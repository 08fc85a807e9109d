"""Where a map cell looks: stride, offset and receptive field, in pixels of the image.

The standard receptive-field arithmetic (Araujo, Norris, Sim, "Computing Receptive Fields of
Convolutional Neural Networks", Distill 2019), per axis. Pixel i covers [i, i + 1), so the centre
of a window over pixels 0 to 31 is 16.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx

from anysize.surgery.graph import Graph, Model, attribute, image_input, image_layout, opset_version
from anysize.surgery.shapes import POOLING, SHAPE_KEEPING, sliding_windows
from anysize.surgery.size_guard import is_guard

__all__ = ["MapGeometry", "map_geometry"]

_POINTWISE = SHAPE_KEEPING | {
    "Add", "Concat", "Div", "Gather", "Max", "Mean", "Min", "Mul", "Slice", "Split", "Sub", "Sum",
}  # fmt: skip
# They mix, pick or join what lies along some axes.
_ALONG_AXES = frozenset({"Concat", "Gather", "LogSoftmax", "Slice", "Softmax", "Split"})
_DEFAULT_AXES = {"Concat": 1, "Gather": 0, "Split": 0}
# Before, a Softmax is over all axes from its own on.
_SOFTMAX_ALONG_AXIS_OPSET = 13
_IMAGE_RANK = 4


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
    """One side of the image: cell 0 sees pixels [start, end), cell i those `i · stride` further."""

    side: str
    stride: int = 1
    start: int = 0
    end: int = 1

    def moved(self, cells: int) -> _Reach:
        pixels = cells * self.stride
        return replace(self, start=self.start + pixels, end=self.end + pixels)


# For each axis of a tensor what its cells see; None for one that is no side of the image.
_Reaches = tuple[_Reach | None, ...]


def map_geometry(model: Model, tensor: str) -> MapGeometry | None:
    """Work out how a `(batch, channels, map_height, map_width)` tensor lies on the image.

    Branches are joined by the union of what they see; they must have equal strides.

    Args:
        model: Not modified; only the dims of weights are read.
        tensor: Name of the map.

    Returns:
        The geometry, or None where an operator on the way has none: a global pooling, a Resize,
        a pooling with bins that depend on the size; or where the map's axes lie otherwise.

    Raises:
        UnsupportedModelError: The graph has no image input.
    """
    graph = Graph.of(model)
    layout = image_layout(graph)
    sides = {layout.height: _Reach("height"), layout.width: _Reach("width")}
    image = tuple(sides.get(axis) for axis in range(_IMAGE_RANK))
    reaches: dict[str, _Reaches | None] = {image_input(graph.model).name: image}
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
    found = (reaches.get(tensor) or ())[2:]
    height, width = found if len(found) == 2 else (None, None)
    if height is None or width is None or (height.side, width.side) != ("height", "width"):
        return None
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
        return _joined(incoming) if _leaves_sides(graph, node, incoming[0]) else None
    if is_guard(graph.node(index)):
        return incoming[0]
    if node.op_type == "Transpose":
        perm = attribute(node, "perm")
        return tuple(incoming[0][axis] for axis in perm) if isinstance(perm, list) else None
    if node.op_type == "Pad":
        return _padded(graph, node, incoming[0])
    if node.op_type == "Conv" or node.op_type in POOLING:
        return _windowed(graph, node, incoming[0])
    return None


def _joined(incoming: list[_Reaches]) -> _Reaches | None:
    """Let each axis see what all inputs see along it; None where they do not go together."""
    joined = list(incoming[0])
    for other in incoming[1:]:
        if len(other) != len(joined):
            return None
        for axis, (a, b) in enumerate(zip(joined, other, strict=True)):
            if a is None or b is None:
                if a is not b:
                    return None
                continue
            if (a.side, a.stride) != (b.side, b.stride):
                return None
            joined[axis] = replace(a, start=min(a.start, b.start), end=max(a.end, b.end))
    return tuple(joined)


def _windowed(graph: Graph, node: onnx.NodeProto, incoming: _Reaches) -> _Reaches | None:
    weight = graph.constant(node.input[1]) if node.op_type == "Conv" else None
    windows = sliding_windows(node, weight.dims[2:] if weight is not None else None)
    if len(windows) != len(incoming) - 2 or incoming[:2] != (None, None):
        return None
    result: list[_Reach | None] = [None, None]
    for reach, window in zip(incoming[2:], windows, strict=True):
        if reach is None:
            return None
        begin = window.pad_begin
        if window.is_same:
            if window.stride > 1:  # the padding depends on the image's size
                return None
            total = window.extent - 1
            is_lower = attribute(node, "auto_pad") == "SAME_LOWER"
            begin = total - total // 2 if is_lower else total // 2
        start = reach.start - begin * reach.stride
        end = reach.end + (window.extent - 1 - begin) * reach.stride
        result.append(_Reach(reach.side, reach.stride * window.stride, start, end))
    return tuple(result)


def _padded(graph: Graph, node: onnx.NodeProto, incoming: _Reaches) -> _Reaches | None:
    pads = attribute(node, "pads")
    if pads is None and len(node.input) > 1:
        constant = graph.small_constant(node.input[1])
        pads = None if constant is None else constant.tolist()
    is_constant = attribute(node, "mode", "constant") == "constant"
    has_axes = len(node.input) > 3 and bool(node.input[3])
    if not is_constant or has_axes or not isinstance(pads, list) or len(pads) != 2 * len(incoming):
        return None
    return tuple(reach and reach.moved(-pad) for reach, pad in zip(incoming, pads, strict=False))


def _leaves_sides(graph: Graph, node: onnx.NodeProto, reaches: _Reaches) -> bool:
    """Say whether a pointwise operator, if along an axis, is along none of the image's sides."""
    if node.op_type not in _ALONG_AXES:
        return True
    axes = _axes(graph, node)
    if not axes or not all(-len(reaches) <= axis < len(reaches) for axis in axes):
        return False
    return all(reaches[axis] is None for axis in axes)


def _axes(graph: Graph, node: onnx.NodeProto) -> Sequence[int] | None:
    """Return what an operator is along; None where that is not known."""
    if node.op_type == "Slice":
        return graph.integers(node, "axes", 3)
    if node.op_type == "Gather":
        indices = graph.constant(node.input[1])
        if indices is None or len(indices.dims) != 1:
            return None
    is_along_one = opset_version(graph.model) >= _SOFTMAX_ALONG_AXIS_OPSET
    axis = attribute(node, "axis", _DEFAULT_AXES.get(node.op_type, -1 if is_along_one else 1))
    if not isinstance(axis, int):
        return None
    if is_along_one or node.op_type in _DEFAULT_AXES:
        return [axis]
    return range(axis, 0 if axis < 0 else _IMAGE_RANK)
