"""AveragePool whose window is the whole map at the training size → GlobalAveragePool.

ResNet, GoogLeNet and ShuffleNet files of the ONNX model zoo average their 7×7 map with a window of
7×7. At another size such a window is local: it slides, or does not fit. What was meant is the mean
over the whole map (Lin, Chen, Yan, "Network in Network", ICLR 2014).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from anysize.sizes import Size
from anysize.surgery.edit import Edits
from anysize.surgery.graph import GraphView, attribute
from anysize.surgery.passes.result import PassResult
from anysize.surgery.shapes import infer_shapes, sliding_windows, trained_size

__all__ = ["local_pool_to_global"]


def local_pool_to_global(model: onnx.ModelProto, size: Size | None = None) -> PassResult:
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
    size = size or trained_size(model)
    if size is None:
        return PassResult(model, applied=False, reason="the training size is not known")
    view = GraphView(model)
    pools = [i for i, node in enumerate(view.nodes) if node.op_type == "AveragePool"]
    shapes = infer_shapes(model, size) if pools else {}
    edits, names = Edits(), []
    for index in pools:
        node = view.node(index)
        if not _covers(node, shapes.get(node.input[0], ())[2:]):
            continue
        edits.nodes[index] = [
            onnx.helper.make_node(
                "GlobalAveragePool", [node.input[0]], list(node.output), name=node.name
            )
        ]
        names.append(node.name or f"#{index}")
    if not names:
        reason = f"no AveragePool has a window over its whole map at {size}"
        return PassResult(model, applied=False, reason=reason)
    edits.apply(model)
    return PassResult(model, applied=True, nodes=tuple(names))


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
