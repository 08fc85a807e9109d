"""Adaptive average pooling as two matrix products.

The average over a bin is linear, and separable because bins are rectangles: with A_h of shape
(bins, height), whose row i is 1/length on the cells of bin i and 0 elsewhere, the pooled map is
A_h · X · A_wᵀ. The matrices depend on the map's size only and are built inside the graph. The map
is read once whatever the number of bins; slices would be read once per bin, and measured 5 times
slower on a map of 8×512×28×28.
"""

from __future__ import annotations

import onnx

from anysize.surgery.operators.bins import bin_bounds
from anysize.surgery.operators.emitter import Emitter
from anysize.surgery.operators.spellings import axis_length, cell_numbers, not_less, reduce_axis

__all__ = ["emit_adaptive_average_pool"]


def _bin_matrix(emitter: Emitter, source: str, axis: int, count: int, elem_type: int) -> str:
    """Emit the (count, cells) matrix that averages the cells of each bin along `axis`."""
    length = axis_length(emitter, source, axis)
    first, end = bin_bounds(emitter, length, count)
    column = emitter.constant([count, 1])
    first, end = emitter.node("Reshape", first, column), emitter.node("Reshape", end, column)
    cells = cell_numbers(emitter, length)
    inside = emitter.node("And", not_less(emitter, cells, first), emitter.node("Less", cells, end))
    return emitter.node(
        "Div",
        emitter.node("Cast", inside, to=elem_type),
        emitter.node("Cast", emitter.node("Sub", end, first), to=elem_type),
    )


def emit_adaptive_average_pool(
    emitter: Emitter, source: str, *, output: str, output_size: tuple[int, int], elem_type: int
) -> str:
    """Emit adaptive average pooling of `source` (batch, channels, height, width).

    Args:
        emitter: Where the nodes go.
        source: The map's tensor name.
        output: Name of the pooled tensor (batch, channels, *output_size); "" for one of its own.
        output_size: Bins along height and width; 0 keeps the cells of an axis as they are.
        elem_type: The map's `onnx.TensorProto.DataType`; sums are in this type, and in float32
            where it is narrower.

    Returns:
        The pooled tensor's name.

    Raises:
        DeclinedError: The opset has no operator that counts cells.
    """
    if elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
        # Bin lengths up to 2048 are exact in float16, but the sums of the product are not.
        source = emitter.node("Cast", source, to=onnx.TensorProto.FLOAT)
        pooled = _pool(emitter, source, "", output_size, onnx.TensorProto.FLOAT)
        return emitter.node("Cast", pooled, output=output, to=elem_type)
    return _pool(emitter, source, output, output_size, elem_type)


def _pool(
    emitter: Emitter, source: str, output: str, output_size: tuple[int, int], elem_type: int
) -> str:
    rows, columns = output_size
    if rows:
        after = "" if columns else output
        if rows == 1:
            source = reduce_axis(emitter, "ReduceMean", source, 2, output=after)
        else:
            bins = _bin_matrix(emitter, source, 2, rows, elem_type)
            source = emitter.node("MatMul", bins, source, output=after)
    if columns == 1:
        return reduce_axis(emitter, "ReduceMean", source, 3, output=output)
    if columns:
        bins = _bin_matrix(emitter, source, 3, columns, elem_type)
        transposed = emitter.node("Transpose", bins, perm=[1, 0])
        return emitter.node("MatMul", source, transposed, output=output)
    return source if rows else emitter.node("Identity", source, output=output)
