"""Bins of adaptive pooling, computed inside the graph from the size of the map.

Bin i of n over a cells spans ⌊i·a/n⌋ to ⌈(i+1)·a/n⌉ (exclusive), as PyTorch's adaptive pooling
has it. All arithmetic is on int64 and therefore exact.
"""

from __future__ import annotations

from anysize.surgery.operators.emitter import Emitter

__all__ = ["bin_bounds"]


def bin_bounds(emitter: Emitter, length: str, count: int) -> tuple[str, str]:
    """Emit the first cell of each bin and the cell after its last one, each int64 (count,).

    Args:
        emitter: Where the nodes go.
        length: Cells along the axis, int64 of shape (1,).
        count: Number of bins.
    """
    bins = emitter.constant([count])
    first = emitter.node("Div", emitter.node("Mul", length, emitter.constant(range(count))), bins)
    above = emitter.node("Mul", length, emitter.constant(range(1, count + 1)))
    rounded_up = emitter.node("Add", above, emitter.constant([count - 1]))
    return first, emitter.node("Div", rounded_up, bins)
