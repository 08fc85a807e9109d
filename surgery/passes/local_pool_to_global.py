"""AveragePool whose window is the whole map at the training size → GlobalAveragePool.

ResNet, GoogLeNet and ShuffleNet files of the ONNX model zoo average their 7×7 map with a window of
7×7. At another size such a window is local: it slides, or does not fit. What was meant is the mean
over the whole map (Lin, Chen, Yan, "Network in Network", ICLR 2014).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from anysize.sizes import Size
from anysize.surgery.graph import Edits, Graph, Model, attribute
from anysize.surgery.passes.result import PassResult, applied, refused
from anysize.surgery.shapes import infer_shapes, sliding_windows, trained_size

__all__ = ["local_pool_to_global", "whole_map_pools"]


def local_pool_to_global(model: Model, size: Size | None = None) -> PassResult:
    """Write every average over a window that covers its whole map as GlobalAveragePool.

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
        edits.nodes[index] = [
            onnx.helper.make_node(
                "GlobalAveragePool", [node.input[0]], list(node.output), name=node.name
            )
        ]
    return applied(graph, edits, f"no AveragePool has a window over its whole map at {size}")


def whole_map_pools(graph: Graph, size: Size) -> list[int]:
    """Return the indices of the poolings that average over one window as large as the map.

    Raises:
        IllegalSizeError: The graph does not take images of `size`.
    """
    pools = [i for i, node in enumerate(graph.nodes) if node.op_type == "AveragePool"]
    shapes = infer_shapes(graph, size) if pools else {}
    sides = {index: shapes.get(graph.node(index).input[0], ())[2:] for index in pools}
    return [index for index in pools if _covers(graph.node(index), sides[index])]


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
