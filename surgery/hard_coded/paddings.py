"""Padding that was computed from the traced size: TensorFlow's `same`, written down as numbers.

`same` pads so that ⌈cells / stride⌉ windows fit, which is other padding at other sizes. Where a
window pads itself alike on both sides that cannot be told from a network's own; where the sides
differ, or a Pad of its own adds just what `same` would, it was most likely computed. Rounding up,
as Caffe's poolings do, is the exception: it pads at the end alone. No network rounds up on some
maps and pads both ends on others, so windows of one kind that do were computed, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx

from anysize.surgery.graph import Graph, attribute, image_layout
from anysize.surgery.shapes import POOLING, ShapeRun, SlidingWindow, sliding_windows

__all__ = ["Padding", "computed_paddings", "filling_pads", "is_open", "paddings"]


@dataclass(frozen=True, slots=True)
class Padding:
    """What is padded along one axis before a window slides over it.

    Attributes:
        index: The node that pads: a Pad, or the window itself.
        window: Index of the node whose window it is.
        axis: Spatial axis, 0 for the height.
        cells: Before the padding.
        sides: Cells added before and after them.
        same: What `same` would add, the odd cell after them or before.
        is_own: Whether the window pads itself.
        is_max: Whether it takes the maximum.
        is_conv: Whether it is a convolution's.
        stride: The window's.
        extent: Cells that the window spans.
    """

    index: int
    window: int
    axis: int
    cells: int
    sides: tuple[int, int]
    same: tuple[tuple[int, int], tuple[int, int]]
    is_own: bool
    is_max: bool
    is_conv: bool
    stride: int
    extent: int

    @property
    def is_suspect(self) -> bool:
        """Whether this may have been computed as `same` padding."""
        is_rounded_up = self.is_own and self.is_max and self.stride > 1 and self.sides[0] == 0
        return self.is_as_same and not is_rounded_up

    @property
    def agrees(self) -> bool:
        """Whether `same` would add as many cells; at stride 1 it does at every size, or at none."""
        return self.sides in self.same

    @property
    def is_as_same(self) -> bool:
        """Whether `same` would add just that, and few others would."""
        return self.agrees and sum(self.sides) > 0 and (self.stride > 1 or not self.is_plain)

    @property
    def place(self) -> tuple[int, int]:
        """The node and axis, which tell it from others at one size."""
        return self.window, self.axis

    @property
    def is_needed(self) -> bool:
        """Whether it is a window's: as much as that reaches over, what `same` adds, or a round."""
        total = sum(self.sides)
        is_reach = total == self.extent - 1 or (self.stride == 1 and total < self.extent)
        is_round = self.is_own and not self.is_conv and self.sides[1] - self.sides[0] < self.stride
        return is_reach or is_round or self.agrees

    @property
    def is_plain(self) -> bool:
        """Whether it looks like padding that the network has at every size."""
        return self.is_own and self.sides[0] == self.sides[1]


def is_open(trained: Sequence[Padding], larger: Sequence[Padding]) -> bool:
    """Say whether more sizes are needed to tell if a padding was traced."""
    others = {one.place: one.sides for one in larger}
    return bool(_of_mixed_kinds(trained)) or any(
        (one.is_suspect and not one.is_plain) or others.get(one.place, one.sides) != one.sides
        for one in trained
    )


def _of_mixed_kinds(trained: Sequence[Padding]) -> set[tuple[int, int]]:
    """Return the extent and stride of windows that pad as `same` would, and not all alike."""
    found: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for one in trained:
        if one.is_as_same:
            found.setdefault((one.extent, one.stride), set()).add(one.sides)
    return {kind for kind, sides in found.items() if len(sides) > 1}


def computed_paddings(
    trained: Sequence[Padding], others: Sequence[Sequence[Padding]]
) -> tuple[Padding, ...]:
    """List the paddings that may have been computed; none, where none was most likely.

    Where one was, so may have been every other that `same` agrees with at the training size, those
    of no cell at all included.

    Args:
        trained: At the training size.
        others: At other sizes, in the same order.
    """
    likely = list(_traced(trained, others))
    if not likely:
        return ()
    strided = [one for one in trained if one.agrees and one.stride > 1]
    return (*likely, *(one for one in strided if one not in likely))


def _traced(trained: Sequence[Padding], others: Sequence[Sequence[Padding]]) -> Iterator[Padding]:
    """Yield the paddings at the training size that are `same` there, and not at other sizes."""
    mixed = _of_mixed_kinds(trained)
    by_place = [{one.place: one for one in case} for case in others]
    for one in trained:
        cases = [case[one.place] for case in by_place if one.place in case]
        is_computed = any(case.sides != one.sides for case in cases)
        if min(one.sides) >= 0 > min((min(case.sides) for case in cases), default=0):
            yield one
        elif (one.is_suspect and (is_computed or not one.is_plain)) or (
            one.is_as_same and (one.extent, one.stride) in mixed
        ):
            which = one.same.index(one.sides)
            if one.stride == 1 or any(case.sides != case.same[which] for case in cases):
                yield one


def filling_pads(
    graph: Graph, nodes: Sequence[int], trained: ShapeRun, larger: ShapeRun
) -> Iterator[tuple[int, tuple[int, int], int]]:
    """Yield the pads that may fill an axis up to a length that the network wants.

    They differ before and after the axis, are more than the window behind them needs, and are not
    what a Slice before them took away.

    Args:
        graph: Not modified.
        nodes: Indices of the nodes to look at.
        trained: What is known at the training size.
        larger: At a size that is larger both ways.

    Yields:
        The node, what it adds before and after one axis, and the cells between.
    """
    is_last = not image_layout(graph).is_channels_first
    needed: dict[int, set[tuple[int, tuple[int, int]]]] = {}
    longer = {one.place: one.cells for one in paddings(graph, nodes, larger)}
    for one in paddings(graph, nodes, trained):
        if one.is_needed:
            needed.setdefault(one.index, set()).add((one.cells, one.sides))
        elif one.is_own and not one.is_plain and longer.get(one.place) != one.cells:
            yield one.index, one.sides, one.cells
    for index in nodes:
        node = graph.node(index)
        if node.op_type != "Pad" or node.domain not in ("", "ai.onnx"):
            continue
        shape, other = (run.shapes.get(node.input[0], ()) for run in (trained, larger))
        every = (0, 0, *range(len(shape)))
        pads, others = (_explicit(node, run, every) for run in (trained, larger))
        if pads is None or pads != others:
            continue
        for axis, sides in enumerate(zip(pads[: len(shape)], pads[len(shape) :], strict=True)):
            is_needed = (shape[axis], sides) in needed.get(index, ())
            if sides[0] == sides[1] or shape[axis] == other[axis] or is_needed:
                continue
            if is_last and all(sides):  # Keras's ZeroPadding2D, which is given what it pads
                continue
            if _before_slice(graph, node.input[0], axis, trained) != shape[axis] + sum(sides):
                yield index, sides, shape[axis]


def _before_slice(graph: Graph, tensor: str, axis: int, run: ShapeRun) -> int | None:
    """Return how long an axis was before a Slice made `tensor`; None where none did."""
    index = graph.producer(tensor)
    while index is not None and graph.node(index).op_type == "Slice":
        tensor = graph.node(index).input[0]
        index = graph.producer(tensor)
    return run.shapes.get(tensor, (0,) * (axis + 1))[axis]


def paddings(graph: Graph, nodes: Sequence[int], run: ShapeRun) -> tuple[Padding, ...]:
    """List what is padded before every window, at one size.

    Args:
        graph: Not modified.
        nodes: Indices of the nodes to look at.
        run: What is known at that size.
    """
    return tuple(one for index in nodes for one in _paddings(graph, index, run))


def _paddings(graph: Graph, index: int, run: ShapeRun) -> Iterator[Padding]:
    node = graph.node(index)
    if node.op_type not in POOLING | {"Conv"} or node.domain not in ("", "ai.onnx"):
        return
    weight = run.shapes.get(node.input[1]) if node.op_type == "Conv" else None
    try:
        windows = sliding_windows(node, weight[2:] if weight else None)
    except ValueError:
        return
    shape, added = run.shapes.get(node.input[0]), (0,) * (2 * len(windows))
    pad, perm = _pad_before(graph, node.input[0])
    if pad is not None:
        before = run.shapes.get(graph.node(pad).input[0])
        explicit = _explicit(graph.node(pad), run, perm)
        if explicit is None or before is None:
            return
        shape, added = tuple(before[axis] for axis in perm or range(len(before))), explicit
    if shape is None or len(shape) != len(windows) + 2 or len(added) != 2 * len(windows):
        return
    for axis, window in enumerate(windows):
        if window.is_same:
            continue
        begin, end = added[axis], added[len(windows) + axis]
        cells = shape[axis + 2]
        yield Padding(
            index=pad if pad is not None and (begin or end) else index,
            window=index,
            axis=axis,
            cells=cells,
            sides=(begin + window.pad_begin, end + window.pad_end),
            same=_same(window, cells),
            is_own=not (begin or end),
            is_max=node.op_type == "MaxPool",
            is_conv=node.op_type == "Conv",
            stride=window.stride,
            extent=window.extent,
        )


def _same(window: SlidingWindow, cells: int) -> tuple[tuple[int, int], tuple[int, int]]:
    windows = -(-cells // window.stride)
    total = max((windows - 1) * window.stride + window.extent - cells, 0)
    return (total // 2, total - total // 2), (total - total // 2, total // 2)


def _pad_before(graph: Graph, tensor: str) -> tuple[int | None, list[int]]:
    """Find the Pad that makes a tensor, and the permutation of a Transpose behind it."""
    index, perm = graph.producer(tensor), list[int]()
    if index is not None and graph.node(index).op_type == "Transpose":
        given = attribute(graph.node(index), "perm")
        perm = given if isinstance(given, list) else []
        index = graph.producer(graph.node(index).input[0]) if perm else None
    is_pad = index is not None and graph.node(index).op_type == "Pad"
    return (index, perm) if is_pad else (None, [])


def _explicit(
    pad: onnx.NodeProto, run: ShapeRun, perm: Sequence[int] = ()
) -> tuple[int, ...] | None:
    """Return the spatial pads of a Pad node, all begins first; None where they are not known.

    Args:
        pad: The node.
        run: What is known.
        perm: Where the axes come from that a Transpose behind it makes, if there is one.
    """
    rank = len(run.shapes.get(pad.input[0], ()))
    value = run.values.get(pad.input[1]) if len(pad.input) > 1 else None
    given = attribute(pad, "pads")
    pads = [int(side) for side in value.ravel()] if value is not None else given
    if not isinstance(pads, list) or rank < 3:
        return None
    axes = list(range(rank))
    if len(pad.input) > 3 and pad.input[3]:
        chosen = run.values.get(pad.input[3])
        if chosen is None:
            return None
        axes = [int(axis) % rank for axis in chosen.ravel()]
    if len(pads) != 2 * len(axes):
        return None
    begins = dict(zip(axes, pads[: len(axes)], strict=True))
    ends = dict(zip(axes, pads[len(axes) :], strict=True))
    spatial = list(perm or range(rank))[2:]
    return tuple(side.get(axis, 0) for side in (begins, ends) for axis in spatial)
