"""Pooling whose window is the whole map at the training size → global pooling.

ResNet, GoogLeNet and ShuffleNet files of the ONNX model zoo average their 7×7 map with a window of
7×7. At another size such a window is local: it slides, or does not fit. What was meant is the mean,
or the maximum, over the whole map (Lin, Chen, Yan, "Network in Network", ICLR 2014).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import onnx

from anysize.sizes import Size
from anysize.surgery.graph import Edits, Graph, Model, attribute
from anysize.surgery.passes.result import PassResult, applied, refused
from anysize.surgery.shapes import infer_shapes, sliding_windows, trained_size

__all__ = ["GLOBAL_POOLS", "local_pool_to_global", "whole_map_pools"]

GLOBAL_POOLS: Mapping[str, str] = MappingProxyType(
    {"AveragePool": "GlobalAveragePool", "MaxPool": "GlobalMaxPool"}
)
"""What a pooling is called where its window is the whole map."""


def local_pool_to_global(model: Model, size: Size | None = None) -> PassResult:
    """Write every pooling over a window that covers its whole map as a global one.

    A window that counts the padding it reaches into is another thing and stays.

    Args:
        model: Edited in place.
        size: The training size; what the file declares or records, by default.

    Returns:
        What was replaced, or why nothing was.

    Raises:
        IllegalSizeError: The graph does not take images of `size`.
    """
    graph = Graph.of(model)
    size = size or trained_size(graph)
    if size is None:
        return refused(graph, "the training size is not known")
    edits = Edits()
    for index in whole_map_pools(graph, size):
        node = graph.node(index)
        kind = GLOBAL_POOLS[node.op_type]
        pooled = onnx.helper.make_node(kind, [node.input[0]], node.output[:1], name=node.name)
        edits.nodes[index] = [pooled]
    return applied(graph, edits, f"no pooling has a window over its whole map at {size}")


def whole_map_pools(graph: Graph, size: Size) -> list[int]:
    """Return the indices of the poolings whose one window is as large as the map.

    A maximum whose window slides elsewhere in the graph is one more step down, as the last 2×2 of
    a VGG for small images is, and one whose places are read is not over the map alone.

    Raises:
        IllegalSizeError: The graph does not take images of `size`.
    """
    pools = [i for i, node in enumerate(graph.nodes) if node.op_type in GLOBAL_POOLS]
    shapes = infer_shapes(graph, size) if pools else {}
    sides = {index: shapes.get(graph.node(index).input[0], ())[2:] for index in pools}
    whole = [index for index in pools if _covers(graph.node(index), sides[index])]
    steps = [_step(graph.node(i)) for i in pools if i not in whole]
    return [index for index in whole if _is_average_or_alone(graph.node(index), steps)]


def _step(node: onnx.NodeProto) -> tuple[str, tuple[tuple[int, int], ...]]:
    return node.op_type, tuple((w.kernel, w.stride) for w in sliding_windows(node))


def _is_average_or_alone(
    node: onnx.NodeProto, steps: Sequence[tuple[str, tuple[tuple[int, int], ...]]]
) -> bool:
    if node.op_type == "AveragePool":
        return True
    is_read_alone = len([name for name in node.output if name]) == 1
    is_more_than_a_cell = any(window.kernel > 1 for window in sliding_windows(node))
    return is_read_alone and is_more_than_a_cell and _step(node) not in steps


def _covers(node: onnx.NodeProto, sides: Sequence[int]) -> bool:
    """Say whether the one window of a pooling holds every cell of the map, and counts no other."""
    windows = sliding_windows(node)
    if not sides or len(windows) != len(sides):
        return False
    counts_padding = bool(attribute(node, "count_include_pad", 0))
    return all(
        not window.is_same
        and window.dilation == 1
        and window.output_cells(side) == 1
        and window.kernel >= side + window.pad_begin
        and (window.kernel == side or not counts_padding)
        for window, side in zip(windows, sides, strict=True)
    )
