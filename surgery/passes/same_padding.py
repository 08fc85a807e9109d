"""Padding that TensorFlow's `same` may have computed → the sizes at which it would be what it is.

A file holds the numbers that `same` gave at the traced size, and does not say whether they were
computed. At a size where `same` would give the very same numbers, both readings are one network. A
file with its channels last whose windows pad themselves comes from TensorFlow, so it takes those
sizes and no others, until the user says that the numbers are constants. Any other file may come
from a module that computes its padding at every size, and declines.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from anysize.errors import DeclinedError
from anysize.sizes import Size, SizeRange
from anysize.surgery.graph import Graph, image_layout
from anysize.surgery.hard_coded import (
    Padding,
    computed_paddings,
    is_open,
    paddings,
    suspects,
)
from anysize.surgery.shapes import IllegalSizeError, ShapeRun, legal_sizes, shape_walk
from anysize.surgery.size_guard import guard_steps

__all__ = ["keep_same_padding"]

# A map at any depth has an odd side at one of these, and an even one at another.
_STEPS = (1, 2, 4, 8, 16, 32, 64)


def keep_same_padding(
    graph: Graph,
    size: Size,
    sizes: SizeRange,
    *,
    tensors: Sequence[str] = (),
    keep: Collection[str] = (),
) -> tuple[SizeRange, tuple[str, ...]]:
    """Let a graph take the sizes alone at which a padding is what `same` would give, too.

    Args:
        graph: Edited in place: it is guarded.
        size: The training size.
        sizes: All that it takes.
        tensors: Look only at what these are computed from; at everything where empty.
        keep: Names of nodes, or of what they make, whose numbers are constants.

    Returns:
        What of `sizes` is left, and a note on it where that is less.

    Raises:
        DeclinedError: Nothing says that TensorFlow computed it, or no size but the training size is
            left; the node is named.
    """
    nodes = suspects(graph, tensors)
    found = _found(graph, size, sizes, nodes, keep) if nodes else ()
    if all(one.agrees and one.stride == 1 for one in found):
        return sizes, ()
    is_tensorflow = not image_layout(graph).is_channels_first
    for one in found:
        if not (is_tensorflow and one.agrees and one.is_own):
            raise _declined(graph, one, size)
    first = found[0]
    expected = {one.place: one.same.index(one.sides) for one in found}

    def is_same(run: ShapeRun) -> bool:
        here = {one.place: one for one in paddings(graph, nodes, run)}
        return all(
            place in here and here[place].sides == here[place].same[which]
            for place, which in expected.items()
        )

    fixed = sizes.fixed_sides
    try:
        left = sizes & legal_sizes(graph, size, fixed=fixed, accepts=is_same)
    except DeclinedError as exc:
        raise _declined(graph, first, size) from exc
    if len(left.fixed_sides) > len(fixed):
        raise _declined(graph, first, size)
    if left == sizes:
        return sizes, ()
    label, name = graph.label(first.index), graph.names(first.index)[0]
    guard_steps(graph, left)
    note = (
        f"{label} pads as TensorFlow's same padding does at {size}, so only those sizes are taken "
        f"at which it would pad like that; --keep {name} says that its numbers are constants"
    )
    return left, (note,)


def _found(
    graph: Graph, size: Size, sizes: SizeRange, nodes: Sequence[int], keep: Collection[str]
) -> tuple[Padding, ...]:
    """Find what may have been computed, what is most likely so first."""
    walk = shape_walk(graph)

    def at(near: Size | None) -> tuple[Padding, ...]:
        try:
            found = () if near is None else paddings(graph, nodes, walk.run(near))
        except IllegalSizeError:
            return ()
        return tuple(one for one in found if set(keep).isdisjoint(_names(graph, one)))

    trained, larger = at(size), at(sizes.larger(size))
    if not is_open(trained, larger):
        return ()
    near = [sizes.near(size.height + step, size.width + step) for step in _STEPS]
    return computed_paddings(trained, [larger, *map(at, dict.fromkeys(near))])


def _names(graph: Graph, padding: Padding) -> tuple[str, ...]:
    return graph.names(padding.index) + graph.names(padding.window)


def _declined(graph: Graph, padding: Padding, size: Size) -> DeclinedError:
    label, (begin, end) = graph.label(padding.index), padding.sides
    return DeclinedError(
        f"{label}: pads {padding.cells} cells by {begin} and {end}, which may stem from {size} "
        f"(TensorFlow's same padding); --keep {graph.names(padding.index)[0]} says that it is a "
        "constant, --reference SOURCE asks the module, --to resize keeps all as it is",
        node=graph.node(padding.index).name,
    )
