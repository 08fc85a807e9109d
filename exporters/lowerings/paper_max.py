"""Max pyramids with the bins of the SPP paper: window ⌈a/n⌉ and stride ⌊a/n⌋, by slices.

With a = q·n + r the formula gives n bins only where r ≤ q (and q ≥ 1, which r ≤ q implies for
a ≥ 1). PyTorch refuses all other maps, so the graph has to: how far r exceeds q on either axis, at
its worst over all levels, is what two Expands are asked to make up for (`anysize.surgery` has the
same guard for sizes). Where it is 0 they change nothing; where it is not, the first one fails, or
for a = 1, which broadcasts, the second.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from anysize.surgery.operators import Emitter, reduce_bins

__all__ = ["PAPER_BINS", "has_paper_bins", "lower_paper_pyramid"]

# Begins the names of the nodes.
PAPER_BINS = "anysize_paper_bins"


def has_paper_bins(model: onnx.ModelProto) -> bool:
    """Say whether a graph has such bins: then illegal sizes lie between legal ones."""
    return any(node.name.startswith(f"{PAPER_BINS}/") for node in model.graph.node)


def lower_paper_pyramid(emitter: Emitter, source: str, *, outputs: Mapping[int, str]) -> None:
    """Emit the levels of a pyramid over `source` (batch, channels, height, width).

    Args:
        emitter: Where the nodes go.
        source: The map's tensor name.
        outputs: For each level n, the name of the pooled tensor (batch, channels, n, n).
    """
    sides = emitter.node("Shape", source, start=2, end=4)
    strides: dict[int, str] = {}
    excess = [emitter.constant([0, 0])]
    for level in outputs:
        bins = emitter.constant([level])
        strides[level] = emitter.node("Div", sides, bins)
        rest = emitter.node("Sub", sides, emitter.node("Mul", strides[level], bins))
        excess.append(emitter.node("Sub", rest, strides[level]))
    missing = emitter.node("Max", *excess)
    once = emitter.node("Add", sides, missing)
    twice = emitter.node("Add", once, missing)
    keep = emitter.constant([1, 1])
    checked = source
    for wanted in (once, twice):
        shape = emitter.node("Concat", keep, wanted, axis=0)
        checked = emitter.node("Expand", checked, shape)
    for level, output in outputs.items():
        _lower_level(emitter, checked, level, sides, strides[level], output)


def _lower_level(
    emitter: Emitter, source: str, level: int, sides: str, strides: str, output: str
) -> None:
    if level == 1:
        emitter.node("GlobalMaxPool", source, output=output)
        return
    bins = emitter.constant([level])
    above = emitter.node("Add", sides, emitter.constant([level - 1]))
    windows = emitter.node("Div", above, bins)
    halves, unnamed = emitter.constant([1, 1]), ["", ""]
    stride = emitter.nodes_out("Split", strides, halves, outputs=unnamed, axis=0)
    window = emitter.nodes_out("Split", windows, halves, outputs=unnamed, axis=0)
    for axis, name in ((2, ""), (3, output)):
        first = emitter.node("Mul", stride[axis - 2], emitter.constant(range(level)))
        end = emitter.node("Add", first, window[axis - 2])
        source = reduce_bins(emitter, source, axis, first, end, count=level, output=name)
