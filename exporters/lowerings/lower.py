"""Replace each placeholder of a traced graph by its lowering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import onnx

from anysize.errors import ExportError
from anysize.exporters.lowerings.paper_max import PAPER_BINS, lower_paper_pyramid
from anysize.exporters.tracing import DOMAIN
from anysize.surgery.graph import Edits, Graph, attribute
from anysize.surgery.operators import (
    Emitter,
    emit_adaptive_average_pool,
    emit_bilinear_resize,
    emit_max_pyramid,
)

__all__ = ["lower_placeholders"]


def _output_size(node: onnx.NodeProto) -> tuple[int, int]:
    height, width = cast("Sequence[int]", attribute(node, "output_size", (0, 0)))
    return int(height), int(width)


def _resized(node: onnx.NodeProto) -> tuple[int | str, int | str]:
    """Return the height and width of a resize: numbers, or the tensors that follow the map."""
    height, width = _output_size(node)
    tensors = [*node.input[1:], "", ""]
    return tensors[0] or height, tensors[1] or width


def _element_type(graph: onnx.GraphProto, tensor: str) -> int:
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.name == tensor:
            return int(value.type.tensor_type.elem_type)
    return onnx.TensorProto.FLOAT


# Placeholder → what writes it, and what says its size.
_LOWERINGS: dict[str, tuple[Callable[..., object], Callable[[onnx.NodeProto], object]]] = {
    "AdaptiveAveragePool2d": (emit_adaptive_average_pool, _output_size),
    "BilinearResize2d": (emit_bilinear_resize, _resized),
}


def _lower_max_group(emitter: Emitter, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Lower all the max poolings of one map together, so that the map is read once."""
    outputs: dict[tuple[int, int], str] = {}
    again: list[tuple[str, str]] = []
    for other in graph.node:
        same_map = other.op_type == node.op_type and other.domain == DOMAIN
        if same_map and other.input[0] == node.input[0]:
            size = _output_size(other)
            if size in outputs:
                again.append((outputs[size], other.output[0]))
            else:
                outputs[size] = other.output[0]
    if node.op_type == "PaperMaxPool2d":
        levels = {bins: name for (bins, _), name in outputs.items()}
        lower_paper_pyramid(emitter, node.input[0], outputs=levels)
    else:
        emit_max_pyramid(emitter, node.input[0], outputs=outputs)
    for output, name in again:
        emitter.node("Identity", output, output=name)


def lower_placeholders(model: onnx.ModelProto) -> None:
    """Replace every placeholder in `model`, in place, and drop their domain from its imports.

    Raises:
        ExportError: A placeholder has no lowering.
    """
    graph, edits = model.graph, Edits()
    pooled_maps: set[tuple[str, str]] = set()
    for index, node in enumerate(graph.node):
        if node.domain != DOMAIN:
            continue
        is_paper = node.op_type == "PaperMaxPool2d"
        emitter = Emitter(model, PAPER_BINS if is_paper else node.output[0])
        source, output = node.input[0], node.output[0]
        if is_paper or node.op_type == "AdaptiveMaxPool2d":
            if (node.op_type, source) not in pooled_maps:
                pooled_maps.add((node.op_type, source))
                _lower_max_group(emitter, graph, node)
        elif node.op_type in _LOWERINGS:
            emit, size_of = _LOWERINGS[node.op_type]
            kind = _element_type(graph, source)
            emit(emitter, source, output=output, output_size=size_of(node), elem_type=kind)
        else:
            raise ExportError(f"node {node.name!r}: no lowering for {node.op_type}")
        edits.put(index, emitter.nodes, emitter.initializers)
    edits.apply(Graph(model))
    for index, entry in reversed(list(enumerate(model.opset_import))):
        if entry.domain == DOMAIN:
            del model.opset_import[index]
