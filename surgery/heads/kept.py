"""Finding fully connected heads whose layers stay as they are.

Where nothing but the feature map changes, what stands behind the first layer does not matter: an
expectation over the classes, a rule written with Where, an operator of a runtime's own. So where
the whole head has no canonical form, its way from the map to the first layer alone is read.
"""

from __future__ import annotations

import math

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.graph import Graph, Model, is_turned_image
from anysize.surgery.heads.constants import is_constant
from anysize.surgery.heads.find import (
    AnySizeAlreadyError,
    Head,
    find_heads,
    head_of,
    only_one,
    read_region,
)
from anysize.surgery.heads.flattening import TracedShapes, traced_shapes
from anysize.surgery.heads.layout import Layout
from anysize.surgery.heads.readers import MOVES, POINTWISE, data_inputs
from anysize.surgery.heads.region import Region, is_feature_map
from anysize.surgery.shapes import trained_size
from anysize.surgery.size_guard import unguarded

__all__ = ["find_kept_head", "find_kept_heads"]

_MAP = ("N", "C", "H", "W")
_LINEAR = frozenset({"Gemm", "MatMul"})


def find_kept_heads(model: Model, size: Size | None = None) -> tuple[Head, ...]:
    """Find the fully connected heads of a classifier whose layers stay.

    Args:
        model: Not modified; its weights are not read.
        size: The training size; what the file declares or records, by default.

    Returns:
        The heads that `find_heads` finds; where one has no canonical form, heads whose layers end
        with the first fully connected one, and whose scores are the outputs themselves.

    Raises:
        DeclinedError: As `find_heads`, where no way from a map to such a layer can be read.
        IllegalSizeError: The graph does not take images of `size`.
    """
    graph = Graph.of(model)
    trained = size or trained_size(graph)
    try:
        return find_heads(graph, size)
    except AnySizeAlreadyError:
        raise
    except DeclinedError:
        heads = None
        if trained is not None:
            heads = graph.found(("kept heads", trained), lambda: _find(graph, trained))
        if not heads:
            raise
        return heads


def find_kept_head(model: Model, size: Size | None = None) -> Head:
    """Find the one such head; arguments and errors are those of `find_kept_heads`."""
    return only_one(find_kept_heads(model, size))


def _find(graph: Graph, size: Size) -> tuple[Head, ...]:
    traced = traced_shapes(graph, size)
    regions: dict[str, Region] = {}
    for index, node in enumerate(graph.nodes):
        is_layer = node.op_type in _LINEAR and any(is_constant(graph, n) for n in node.input[:2])
        way = _way_to(graph, index, traced) if is_layer else None
        if way is None:
            continue
        name, nodes = way
        region = regions.setdefault(unguarded(graph, name), Region())
        region.nodes |= {*nodes, index}
        region.maps.setdefault(name, min(nodes))
    return tuple(_head(graph, name, region, traced, size) for name, region in regions.items())


def _way_to(graph: Graph, layer: int, traced: TracedShapes) -> tuple[str, list[int]] | None:
    """Go back from a layer on rows of features to the map that they are flattened from."""
    tensor, nodes = data_inputs(graph, layer)[0], list[int]()
    if len(traced.shapes.get(tensor, ())) != 2:
        return None
    while True:
        index = graph.producer(tensor)
        if index is None:
            return None
        node = graph.node(index)
        data = data_inputs(graph, index) if node.op_type in MOVES | POINTWISE else ()
        if len(data) != 1:
            return None
        nodes.append(index)
        tensor = data[0]
        if node.op_type in MOVES and is_feature_map(graph, tensor, traced.shapes):
            is_one_cell = math.prod(traced.shapes[tensor][2:]) == 1
            return None if is_one_cell or is_turned_image(graph, tensor) else (tensor, nodes)


def _head(graph: Graph, name: str, region: Region, traced: TracedShapes, size: Size) -> Head:
    _, channels, height, width = traced.shapes[name]
    made = [output for index in region.nodes for output in graph.node(index).output]
    maps = [output for output in made if len(traced.shapes.get(output, ())) == len(_MAP)]
    for entry in (*region.maps, *maps):
        for reader in graph.consumers(entry):
            if reader not in region.nodes and graph.node(reader).op_type != "Shape":
                raise DeclinedError(
                    f"{graph.label(reader)}: reads the map {entry!r} beside the head, and how is "
                    "not known; --to resize keeps both as they are",
                    node=graph.node(reader).name,
                )
    layout = Layout(_MAP, traced.batch, channels, height, width)
    behind = {made for index in graph.downstream(name) for made in graph.node(index).output}
    region.outputs = tuple(o.name for o in graph.model.graph.output if o.name in behind)
    layers = read_region(graph, region, layout, traced)
    return head_of(graph, region, layout, layers, region.outputs, feature_map=name, size=size)
