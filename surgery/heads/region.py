"""The walk back from a classifier's outputs to the feature map that its head is on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

from anysize.errors import DeclinedError
from anysize.surgery.graph import (
    Graph,
    attribute,
    image_input,
)
from anysize.surgery.heads.constants import is_constant
from anysize.surgery.heads.layers import declined
from anysize.surgery.heads.readers import (
    MOVES,
    POINTWISE,
    REDUCTIONS,
    SELECTIONS,
    TAILS,
    data_inputs,
    reduced_axes,
)
from anysize.surgery.shapes import Shape
from anysize.surgery.size_guard import unguarded

__all__ = [
    "AnySizeAlreadyError",
    "Region",
    "is_feature_map",
    "walk_back",
    "without_form",
]

_GLOBAL = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
_SPATIAL = frozenset({"Conv", "AveragePool", "MaxPool"})
_REGIONS = frozenset({"RoiAlign", "MaxRoiPool"})
_LINEAR = frozenset({"Gemm", "MatMul"})
# Of the features of an image; of a map they are no part of a head.
_OF_FEATURES = REDUCTIONS | SELECTIONS | {"Expand"}
_IN_HEAD = MOVES | POINTWISE | TAILS | _LINEAR | _OF_FEATURES


class AnySizeAlreadyError(DeclinedError):
    """There is no fixed-size head to rewrite: the graph pools globally or ends in a map."""


@dataclass(slots=True)
class Region:
    """The nodes between a feature map and the outputs that are made of it.

    Attributes:
        nodes: Their indices.
        maps: Each tensor `(batch, channels, height, width)` that they begin with → a reader of it.
        outputs: The graph outputs that they make.
    """

    nodes: set[int] = field(default_factory=set)
    maps: dict[str, int] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()


def walk_back(graph: Graph, shapes: Mapping[str, Shape]) -> tuple[Region, ...]:
    """Gather the head of every output that has one; the others take any size and stay alone.

    Outputs that share a node or a feature map share a region.

    Args:
        graph: The graph.
        shapes: Tensor → shape at the training size; empty where that is not known, and then the
            walk ends at the first node that may be a flatten.

    Raises:
        AnySizeAlreadyError: No output has one.
        DeclinedError: A node on the way cannot belong to a head.
    """
    regions: list[Region] = []
    without: AnySizeAlreadyError | None = None
    for output in graph.model.graph.output:
        walk = _Walk(graph, shapes)
        try:
            walk.back_from(output.name)
        except AnySizeAlreadyError as exc:
            without = without or exc
            continue
        walk.region.outputs = (output.name,)
        _add(regions, walk.region, graph)
    if not regions:
        raise without or AnySizeAlreadyError("the graph has no fully connected head")
    return tuple(regions)


def _add(regions: list[Region], new: Region, graph: Graph) -> None:
    """Add a region, joined with those that it shares something with, at the place of the first."""

    def maps(region: Region) -> set[str]:
        return {unguarded(graph, name) for name in region.maps}

    shared = [one for one in regions if one.nodes & new.nodes or maps(one) & maps(new)]
    if not shared:
        regions.append(new)
        return
    first = shared[0]
    for other in (*shared[1:], new):
        first.nodes |= other.nodes
        first.maps |= other.maps
        first.outputs += other.outputs
        if other is not new:
            regions.remove(other)
    names = [output.name for output in graph.model.graph.output]
    first.outputs = tuple(sorted(first.outputs, key=names.index))


def is_feature_map(graph: Graph, tensor: str, shapes: Mapping[str, Shape]) -> bool:
    """Say whether a tensor of a head's way back is `(batch, channels, height, width)`.

    Args:
        graph: The graph.
        tensor: What a node that moves axes reads.
        shapes: Tensor → shape at the training size.
    """
    made_by = graph.producer(tensor)
    is_moved = made_by is not None and graph.node(made_by).op_type in MOVES
    if len(shapes.get(tensor, ())) != 4 or is_moved:
        return False
    return not _kinds_behind(graph, unguarded(graph, tensor)) & {*_LINEAR, "Transpose"}


def without_form(graph: Graph, index: int) -> DeclinedError:
    """Make the error for a node that no reader knows."""
    node = graph.node(index)
    if (node.domain, node.op_type) in {(f.domain, f.name) for f in graph.model.functions}:
        return declined(
            graph,
            index,
            f"the head lies in the function {node.op_type!r}; write functions out with "
            "onnx.inliner.inline_local_functions",
        )
    if any(entry.HasField("g") for entry in node.attribute):
        return declined(
            graph, index, f"the head lies in a subgraph of {node.op_type}, expected the main graph"
        )
    if node.domain not in ("", "ai.onnx"):
        return declined(
            graph,
            index,
            f"{node.domain}.{node.op_type} in the fully connected head is not a standard "
            "operator; export without runtime-specific fusion",
        )
    return declined(
        graph,
        index,
        f"{node.op_type} in the fully connected head has no form that can be rewritten; "
        "--to resize keeps the head as it is",
    )


class _Walk:
    def __init__(self, graph: Graph, shapes: Mapping[str, Shape]) -> None:
        self.region = Region()
        self._graph = graph
        self._shapes = shapes

    def back_from(self, output: str) -> None:
        pending, seen = [output], {output}
        any_size: AnySizeAlreadyError | None = None
        while pending:
            tensor = pending.pop()
            index = self._graph.producer(tensor)
            if index is None:
                raise DeclinedError(
                    f"the path from output {output!r} reaches {tensor!r} without a flatten"
                )
            try:
                before = self._enter(index)
            except AnySizeAlreadyError as exc:
                any_size, before = any_size or exc, ()
            pending += [name for name in before if name not in seen]
            seen.update(before)
        if any_size is not None and self.region.maps:
            names = " and ".join(repr(name) for name in self.region.maps)
            raise declined(
                self._graph,
                min(self.region.maps.values()),
                f"the head flattens {names} and joins it with what takes any size; --to resize "
                "keeps the head as it is",
            )
        if any_size is not None:
            raise any_size
        if not self.region.maps:
            raise AnySizeAlreadyError(f"output {output!r} does not depend on the image")

    def _enter(self, index: int) -> tuple[str, ...]:
        """Take a node into the region; return the tensors to go on from."""
        graph, node = self._graph, self._graph.node(index)
        is_known = node.op_type in _IN_HEAD and node.domain in ("", "ai.onnx")
        if not is_known or self._is_of_map(index):
            raise self._stranger(index)
        data = data_inputs(graph, index)
        if node.op_type in MOVES and self._begins(index, data[0]):
            self.region.maps[data[0]] = index
            data = ()
        self.region.nodes.add(index)
        return data

    def _is_of_map(self, index: int) -> bool:
        """Say whether a node reduces or repeats what has positions still."""
        node = self._graph.node(index)
        if not self._shapes and node.op_type in SELECTIONS:
            return True
        rank = len(self._shapes.get(node.input[0], ()))
        return node.op_type in _OF_FEATURES and (rank > 2 or _is_global(self._graph, index))

    def _begins(self, index: int, tensor: str) -> bool:
        """Say whether the head begins at this node, that is, whether it reads the feature map."""
        graph = self._graph
        kinds = _kinds_behind(graph, unguarded(graph, tensor))
        if not kinds & _LINEAR:
            if kinds & _REGIONS:
                raise AnySizeAlreadyError(
                    f"{graph.label(index)}: flattens regions of a map, pooled from a map of any "
                    "size already; there is no fixed-size head",
                    node=graph.node(index).name,
                )
            if kinds & _GLOBAL:
                raise AnySizeAlreadyError(
                    f"{graph.label(index)}: flattens a global pooling, which takes any size "
                    "already; there is no fixed-size head",
                    node=graph.node(index).name,
                )
        if not self._shapes:
            return not kinds & _LINEAR
        return is_feature_map(graph, tensor, self._shapes)

    def _stranger(self, index: int) -> DeclinedError:
        graph, node = self._graph, self._graph.node(index)
        has_layer = any(graph.node(inside).op_type in _LINEAR for inside in self.region.nodes)
        if node.op_type in _SPATIAL and has_layer:
            return declined(
                graph, index, f"{node.op_type} leads to a fully connected layer without a flatten"
            )
        if node.domain not in ("", "ai.onnx"):
            return without_form(graph, index)
        if node.op_type in _SPATIAL or _is_global(graph, index):
            return AnySizeAlreadyError(
                f"{graph.label(index)}: {node.op_type} leads to the output without a fully "
                "connected layer; the graph takes any size already",
                node=node.name,
            )
        if _is_behind_global(graph, index):
            return AnySizeAlreadyError(
                f"{graph.label(index)}: {node.op_type} is on a global pooling, which takes any "
                "size already; there is no fixed-size head",
                node=node.name,
            )
        return without_form(graph, index)


def _is_behind_global(graph: Graph, index: int) -> bool:
    """Say whether a node sees the image through global poolings alone."""
    pooled = {
        name
        for place, node in enumerate(graph.nodes)
        if _is_global(graph, place)
        for name in node.output
    }
    before = graph.upstream(*graph.node(index).output, until=pooled)
    read = {name for place in before for name in graph.node(place).input}
    return bool(read & pooled) and image_input(graph.model).name not in read


def _is_global(graph: Graph, index: int) -> bool:
    """Say whether a node pools a whole map; a mean over one axis normalises features."""
    node = graph.node(index)
    if node.op_type != "ReduceMean":
        return node.op_type in _GLOBAL
    return len(reduced_axes(graph, index) or ()) == 2


def _kinds_behind(graph: Graph, tensor: str) -> set[str]:
    """Return what stands behind `tensor`, on the way of nodes that could belong to a head.

    The first operator that could not, a fully connected layer, and a Transpose to channels last
    end the way; a sum of two tensors does, too, unless both have their channels put last.
    """
    kinds: set[str] = set()
    for _ in range(len(graph.model.graph.node) + 1):
        index = graph.producer(tensor)
        if index is None:
            return kinds
        node = graph.node(index)
        if node.op_type in _LINEAR:  # a product of two computed matrices is no layer
            is_layer = any(is_constant(graph, name) for name in node.input[:2])
            return kinds | ({node.op_type} if is_layer else set())
        if node.op_type not in MOVES | POINTWISE | TAILS:
            return kinds | {"GlobalAveragePool" if _is_global(graph, index) else node.op_type}
        if node.op_type == "Transpose" and _is_channels_moved(node):
            kinds.add("Transpose")
        data = data_inputs(graph, index)
        if len(data) != 1:
            return kinds | ({"Transpose"} if _are_turned(graph, data) else set())
        tensor = data[0]
    return kinds


def _are_turned(graph: Graph, tensors: tuple[str, ...]) -> bool:
    """Say whether tensors are made, number by number, of maps with their channels put last."""
    pending, seen = list(tensors), set(tensors)
    while pending:
        index = graph.producer(pending.pop())
        if index is None:
            return False
        node = graph.node(index)
        if node.op_type == "Transpose" and _is_channels_moved(node):
            continue
        if node.op_type not in POINTWISE:
            return False
        data = set(data_inputs(graph, index)) - seen
        pending += data
        seen |= data
    return True


def _is_channels_moved(node: onnx.NodeProto) -> bool:
    perm = attribute(node, "perm")
    return isinstance(perm, list) and len(perm) == 4 and perm[0] == 0 and perm != [0, 3, 1, 2]
