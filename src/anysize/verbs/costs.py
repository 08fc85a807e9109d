"""What a graph costs at an image size, part by part and layer by layer, without running it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anysize.sizes import Size

if TYPE_CHECKING:
    from anysize.surgery.graph import Graph

__all__ = ["LayerFacts", "PartCost", "layer_facts", "part_costs"]

_FLOAT32_BYTES = 4
_Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class PartCost:
    """What a part of a graph takes for one image.

    Attributes:
        part: `features`, up to the map that the head reads, or `head`; `whole` where no head is
            known.
        size: The image.
        multiply_adds: Of convolutions and matrix products; two floating-point operations each.
        activation_bytes: The most that is held at once while the part runs, in float32, if each
            tensor is freed behind its last reader. Weights are no part of it.
    """

    part: str
    size: Size
    multiply_adds: int
    activation_bytes: int


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One node.

    Attributes:
        name: Of the node, or of what it makes where it has none.
        operator: The ONNX operator.
        output: Shape of what it makes for one image; empty where that is not known.
        weights: Numbers in the initializers that it reads.
        multiply_adds: See `PartCost`.
    """

    name: str
    operator: str
    output: tuple[int, ...]
    weights: int
    multiply_adds: int


def part_costs(graph: Graph, size: Size, feature_map: str | None) -> tuple[PartCost, ...]:
    """Count what each part takes at a size.

    Args:
        graph: Its weights are not read.
        size: A size that it takes.
        feature_map: What the head reads; None where that is not known.

    Raises:
        UnsupportedModelError: The graph does not take the size.
    """
    from anysize.surgery import infer_shapes, multiply_adds

    counts, shapes = multiply_adds(graph, size), infer_shapes(graph, size)
    held = _held_bytes(graph, shapes)
    before = _ancestors(graph, feature_map) if feature_map else set()
    head = set(range(len(graph.nodes))) - before
    parts = {"features": before, "head": head} if before else {"whole": head}
    return tuple(
        PartCost(
            part,
            size,
            sum(counts.get(graph.node(index).output[0], 0) for index in indices),
            max((held[index] for index in indices), default=0),
        )
        for part, indices in parts.items()
    )


def layer_facts(graph: Graph, size: Size) -> tuple[LayerFacts, ...]:
    """Describe every node at a size that the graph takes."""
    from anysize.surgery import infer_shapes, multiply_adds

    counts, shapes = multiply_adds(graph, size), infer_shapes(graph, size)
    weights = {one.name: math.prod(one.dims) for one in graph.model.graph.initializer}
    return tuple(
        LayerFacts(
            name=node.name or node.output[0],
            operator=node.op_type,
            output=shapes.get(node.output[0], ()),
            weights=sum(weights.get(name, 0) for name in node.input),
            multiply_adds=counts.get(node.output[0], 0),
        )
        for node in graph.nodes
    )


def _ancestors(graph: Graph, tensor: str) -> set[int]:
    """Return the nodes that a tensor is made by, directly or not."""
    found: set[int] = set()
    waiting = [tensor]
    while waiting:
        index = graph.producer(waiting.pop())
        if index is not None and index not in found:
            found.add(index)
            waiting.extend(graph.node(index).input)
    return found


def _held_bytes(graph: Graph, shapes: _Shapes) -> list[int]:
    """Return for each node what is held while it runs, its own inputs and outputs included."""
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        last.update(dict.fromkeys((*node.input, *node.output), index))
    end = len(graph.nodes)
    last.update((output.name, end) for output in graph.model.graph.output)
    fixed = {one.name for one in graph.model.graph.initializer}
    live = {
        one.name: _bytes(one.name, shapes)
        for one in graph.model.graph.input
        if one.name not in fixed
    }
    held = []
    for index, node in enumerate(graph.nodes):
        live.update((name, _bytes(name, shapes)) for name in node.output)
        held.append(sum(live.values()))
        live = {name: size for name, size in live.items() if last.get(name, index) > index}
    return held


def _bytes(tensor: str, shapes: _Shapes) -> int:
    shape = shapes.get(tensor)
    return 0 if shape is None else _FLOAT32_BYTES * math.prod(shape)
