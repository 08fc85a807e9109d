"""Finding the fully connected head of a graph: from its outputs back to the feature map.

First a walk back, which asks of a node no more than whether it can belong to a head
(`region`); then a reading forward from the feature map, which follows what each axis means and
gives every node its canonical form.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.graph import Graph, Model, attribute, inferred, is_turned_image
from anysize.surgery.heads.constants import find_constant
from anysize.surgery.heads.flattening import TracedShapes, traced_shapes
from anysize.surgery.heads.layers import (
    AxisMove,
    ClassOperator,
    Layer,
    Linear,
    Pointwise,
    Reduction,
    declined,
)
from anysize.surgery.heads.layout import Layout
from anysize.surgery.heads.readers import (
    ReadContext,
    has_several_positions,
    positions_apart,
    read_layer,
)
from anysize.surgery.heads.region import (
    AnySizeAlreadyError,
    Region,
    walk_back,
    without_form,
)
from anysize.surgery.shapes import trained_size
from anysize.surgery.size_guard import unguarded

__all__ = [
    "AnySizeAlreadyError",
    "Head",
    "find_head",
    "find_heads",
    "head_of",
    "only_one",
    "read_region",
]

_MAP_AXES: tuple[str, ...] = ("N", "C", "H", "W")
# What may stand behind a tail without giving the scores another meaning.
_UNCHANGED = frozenset({"Cast", "Dropout", "Identity"})


@dataclass(frozen=True, slots=True)
class Head:
    """A fully connected head.

    Attributes:
        feature_map: The tensor `(batch, channels, map_size.height, map_size.width)` before it.
        channels: Channels of the feature map.
        map_size: Height and width of the feature map at the training size.
        image_size: The training size that the map size comes from.
        entries: The tensors that the head reads: the feature map, or what guards make of it.
        layers: The layers from there to the outputs, in file order.
        outputs: The graph outputs that the head makes.
        scores: For each of them the tensor `(batch, classes)` before its Softmax, its norm or the
            like; the output itself where it has none.
        flattened: The tensor in which positions meet: the feature map, or what the head makes of
            each cell of it before that, as an activation behind channels put last.
        flattened_axes: What lies on its axes: `N`, `C`, `H` and `W` in some order.
    """

    feature_map: str
    channels: int
    map_size: Size
    image_size: Size
    entries: tuple[str, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    scores: tuple[str, ...]
    flattened: str
    flattened_axes: tuple[str, ...]

    @property
    def read(self) -> tuple[str, ...]:
        """What stands for the flattened tensor: itself, or what guards make of it."""
        return self.entries if self.flattened == self.feature_map else (self.flattened,)

    @property
    def first(self) -> int:
        """Index of the first node that reads the flattened tensor."""
        return min(layer.nodes[0] for layer in self.layers if set(layer.inputs) & set(self.read))

    @property
    def classes(self) -> int | None:
        """Number of classes of the first output; None where its layers were not read."""
        if not self.is_read:
            return None
        made = {name: layer for layer in self.layers for name in layer.outputs}
        return made[self.scores[0]].layout_of(self.scores[0]).channels

    @property
    def is_read(self) -> bool:
        """Whether all layers were read, up to the outputs."""
        return set(self.scores) <= {name for layer in self.layers for name in layer.outputs}


def find_head(model: Model, size: Size | None = None) -> Head:
    """Find the fully connected head of a classifier that has one, whatever exporter wrote it.

    Args:
        model: Not modified; its weights are not read.
        size: The training size; what the file declares or records, by default.

    Returns:
        The head.

    Raises:
        AnySizeAlreadyError: There is none, because the graph takes any size already.
        DeclinedError: There are several, something on the way has no canonical form, or the size
            of the feature map is not determined; the message names the node.
        IllegalSizeError: The graph does not take images of `size`.
    """
    return only_one(find_heads(model, size))


def only_one(heads: tuple[Head, ...]) -> Head:
    """Return the one head that there is.

    Raises:
        DeclinedError: There are several.
    """
    if len(heads) > 1:
        names = " and ".join(repr(head.feature_map) for head in heads)
        raise DeclinedError(f"the graph has fully connected heads on {names}, expected one")
    return heads[0]


def find_heads(model: Model, size: Size | None = None) -> tuple[Head, ...]:
    """Find the fully connected heads of a classifier: one for each feature map that has any.

    All outputs that are made of one map belong to one head. They come in the order of their first
    outputs. Arguments and errors are those of `find_head`, but that there may be several.
    """
    graph = Graph.of(model)
    trained = size or trained_size(graph)
    return graph.found(("heads", trained), lambda: _find_heads(graph, trained))


def _find_heads(graph: Graph, size: Size | None) -> tuple[Head, ...]:
    traced = None if size is None else traced_shapes(graph, size)
    regions = walk_back(graph, {} if traced is None else traced.shapes)
    if size is None or traced is None:
        raise _ambiguous(graph, regions[0])
    heads: list[Head] = []
    without: AnySizeAlreadyError | None = None
    for region in regions:
        try:
            heads.append(_head(graph, region, traced, size))
        except AnySizeAlreadyError as exc:
            without = without or exc
    if without is not None and not heads:
        raise without
    return tuple(heads)


def _head(graph: Graph, region: Region, traced: TracedShapes, size: Size) -> Head:
    feature_map = _one_map(graph, region)
    _, channels, height, width = traced.shapes[feature_map]
    _check_closed(graph, region)
    if is_turned_image(graph, feature_map):
        raise declined(
            graph,
            min(region.maps.values()),
            "flattens the image itself, whose channels are not in axis 1; --to resize keeps it so",
        )
    layout = Layout(_MAP_AXES, traced.batch, channels, height, width)
    layers = read_region(graph, region, layout, traced)
    _check_positions(graph, region, layers)
    scores = tuple(_scores(layers, name) for name in region.outputs)
    head = head_of(graph, region, layout, layers, scores, feature_map=feature_map, size=size)
    _check_outputs(head)
    return head


def _check_positions(graph: Graph, region: Region, layers: tuple[Layer, ...]) -> None:
    """Decline where positions of the map stay by themselves, as behind channels put last.

    A 1×1 map does not differ in shape from features; in what its axes mean it does. A text line
    keeps its columns, of a map that is one row high.
    """
    made = {name: layer.layout_of(name) for layer in layers for name in layer.outputs if name}
    layouts = [made[name] for name in region.outputs]
    if all(
        ("H" in one.axes and "W" in one.axes)
        or any(letters in ("H", "W", "HW", "WH") and one.count(letters) > 1 for letters in one.axes)
        for one in layouts
    ):
        index = min(region.maps.values())
        raise AnySizeAlreadyError(
            f"{graph.label(index)}: leads to {region.outputs[0]!r} with every position of the map "
            "by itself; there is no fixed-size head, and --to dynamic frees the sizes",
            node=graph.node(index).name,
        )
    for layer in layers:
        if isinstance(layer, ClassOperator) and has_several_positions(layer.layout):
            raise declined(graph, layer.nodes[0], positions_apart(layer.layout))


def head_of(
    graph: Graph,
    region: Region,
    layout: Layout,
    layers: tuple[Layer, ...],
    scores: tuple[str, ...],
    *,
    feature_map: str,
    size: Size,
) -> Head:
    """Describe a head whose layers were read; `layout` is that of its feature map."""
    flattened, axes = _flattened(graph, layers, region.maps) or (feature_map, _MAP_AXES)
    return Head(
        feature_map=feature_map,
        channels=layout.channels,
        map_size=Size(layout.height, layout.width),
        image_size=size,
        entries=tuple(region.maps),
        layers=layers,
        outputs=region.outputs,
        scores=scores,
        flattened=flattened,
        flattened_axes=axes,
    )


def _flattened(
    graph: Graph, layers: tuple[Layer, ...], entries: Collection[str]
) -> tuple[str, tuple[str, ...]] | None:
    """Find the last tensor that all of the head is made of and that has every position by itself.

    Args:
        graph: The graph.
        layers: The head's, in file order.
        entries: The tensors that it reads.

    Returns:
        Its name and what lies on its axes; None where layers only move the axes of the map until
        positions meet.
    """
    found, is_changed = None, False
    made, read = set(entries), set[int]()
    for layer in layers:
        made |= set(layer.outputs) - {""}
        read |= set(layer.nodes)
        is_changed |= not isinstance(layer, AxisMove)
        live = {name for name in made if _is_read_on(graph, name, read)}
        if len(live) != 1 or not live <= set(layer.outputs):
            continue
        (name,) = live
        axes = layer.layout_of(name).axes
        if sorted(axes) != sorted(_MAP_AXES):
            break
        if is_changed:
            found = name, axes
    return found


def _is_read_on(graph: Graph, tensor: str, read: Collection[int]) -> bool:
    """Say whether something else than these nodes reads the numbers of a tensor."""
    return graph.is_graph_output(tensor) or any(
        index not in read and graph.node(index).op_type != "Shape"
        for index in graph.consumers(tensor)
    )


def _one_map(graph: Graph, region: Region) -> str:
    """Return the feature map that the whole head is on."""
    readers: dict[str, int] = {}
    for name, index in sorted(region.maps.items(), key=lambda item: item[1]):
        readers.setdefault(unguarded(graph, name), index)
    if len(readers) > 1:
        names = " and ".join(repr(name) for name in readers)
        raise declined(
            graph, max(readers.values()), f"the head flattens {names}, expected one feature map"
        )
    return next(iter(readers))


def read_region(
    graph: Graph, region: Region, layout: Layout, traced: TracedShapes
) -> tuple[Layer, ...]:
    """Read the nodes of a region as layers, in file order.

    Raises:
        DeclinedError: A node has no canonical form.
    """
    layouts = dict.fromkeys(region.maps, layout)
    context = ReadContext(graph, layouts, traced.shapes, traced.other, traced.other_batch)
    layers: list[Layer] = []
    taken: set[int] = set()
    for index in sorted(region.nodes):
        if index in taken:
            continue
        layer = read_layer(context, index)
        if layer is None:
            raise without_form(graph, index)
        taken.update(layer.nodes)
        layers.append(layer)
        layouts.update({name: layer.layout_of(name) for name in layer.outputs if name})
    return tuple(sorted(layers, key=lambda layer: layer.nodes[-1]))


def _check_closed(graph: Graph, region: Region) -> None:
    """Decline where something outside the head reads a tensor inside it."""
    for index in sorted(region.nodes):
        for output in filter(None, graph.node(index).output):
            for reader in graph.consumers(output):
                if reader not in region.nodes and not _is_its_arithmetic(graph, region, reader):
                    raise declined(
                        graph,
                        reader,
                        f"reads {output!r} inside the fully connected head; expected nothing else "
                        "to",
                    )


def _is_its_arithmetic(graph: Graph, region: Region, reader: int) -> bool:
    """Say whether a node outside measures a tensor of the head, and only for the head."""
    if graph.node(reader).op_type != "Shape":
        return False
    pending = [reader]
    while pending:
        for name in filter(None, graph.node(pending.pop()).output):
            if graph.is_graph_output(name):
                return False
            pending += [after for after in graph.consumers(name) if after not in region.nodes]
    return True


def _scores(layers: tuple[Layer, ...], output: str) -> str:
    """Walk back from an output over its tails to the scores that they are made of."""
    made = {name: layer for layer in layers for name in layer.outputs}
    read = {name for layer in layers for name in layer.inputs}
    found = name = output
    is_share = False  # whether `name` was divided by the sum of its like, as a Softmax does
    while name in made:
        layer, operator = made[name], getattr(made[name], "operator", "")
        before = _normalised(made, layer)
        if isinstance(layer, ClassOperator) or (operator == "Sigmoid" and name not in read):
            found = layer.inputs[0]
        elif before or (is_share and operator == "Exp"):
            found = before or layer.inputs[0]
        elif not isinstance(layer, AxisMove) and operator not in _UNCHANGED:
            break
        is_share = bool(before)
        name = before or layer.inputs[0]
    while found != output and isinstance(made[found], AxisMove) and made[found].inputs[0] in made:
        found = made[found].inputs[0]  # axes of length 1 are part of the tail
    return found


def _normalised(made: Mapping[str, Layer], layer: Layer) -> str:
    """Return what a layer puts in relation to a reduction of itself, such as its norm; or ""."""
    if not isinstance(layer, Pointwise) or len(layer.inputs) != 2:
        return ""
    for data, other in (layer.inputs, layer.inputs[::-1]):
        name, is_reduced = other, False
        while name in made and name != data and len(made[name].inputs) == 1:
            is_reduced |= isinstance(made[name], Reduction)
            name = made[name].inputs[0]
        if is_reduced and name == data:
            return data
    return ""


def _check_outputs(head: Head) -> None:
    """Decline where the head flattens a map and does nothing with it."""
    if head.map_size.area > 1 and not any(isinstance(layer, Linear) for layer in head.layers):
        raise DeclinedError("the head flattens a map and has no fully connected layer behind it")


def _ambiguous(graph: Graph, region: Region) -> DeclinedError:
    """Say which maps would fit the first layer, so that the user can tell."""
    for index in sorted(region.nodes):
        node = graph.node(index)
        if node.op_type in ("Gemm", "MatMul"):
            features = _in_features(graph, index)
            if features is None:
                break
            options = " or ".join(_factorings(features, _channels(graph, region)))
            return declined(
                graph,
                index,
                f"weight has {features} inputs, which is {options}; give --size to say which",
            )
    return DeclinedError(
        "height and width of the input are symbolic and the training size is not recorded; "
        "give --size to say it"
    )


def _in_features(graph: Graph, index: int) -> int | None:
    node = graph.node(index)
    weight = find_constant(graph, node.input[1])
    if weight is None or len(weight.dims) != 2:
        return None
    is_output_first = node.op_type == "Gemm" and attribute(node, "transB", 0)
    return weight.dims[1 if is_output_first else 0]


def _factorings(features: int, channels: int | None) -> list[str]:
    """List up to three C×h×w with product `features`, the squarest maps first."""
    if channels and features % channels == 0:
        cells = features // channels
        sides = [h for h in range(1, cells + 1) if cells % h == 0] if cells < 1 << 20 else [1]
        sides.sort(key=lambda h: abs(h - cells // h))
        return [f"{channels}×{h}×{cells // h}" for h in sides[:3]]
    squares = [s for s in range(2, math.isqrt(features) + 1) if features % (s * s) == 0]
    squares.sort(key=lambda s: abs(s - 7))  # ImageNet networks end in 7×7
    return [f"{features // (s * s)}×{s}×{s}" for s in (squares or [1])[:3]]


def _channels(graph: Graph, region: Region) -> int | None:
    values = inferred(graph)
    for name in region.maps:
        value = values.get(name)
        dims = [] if value is None else value.type.tensor_type.shape.dim
        if len(dims) == 4:
            return int(dims[1].dim_value) or None
    return None
