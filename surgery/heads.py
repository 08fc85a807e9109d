"""Finding the fully connected head of a graph: from its outputs back to the flatten."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery.flattening import TracedShapes, is_flatten, is_flatten_spelling, traced_shapes
from anysize.surgery.graph import GraphView
from anysize.surgery.intervals import trained_size
from anysize.surgery.layers import Layer, Linear, Pointwise, Tail, read_layer
from anysize.surgery.size_guard import unguarded
from anysize.surgery.skeleton import inferred_values

__all__ = ["AnySizeAlreadyError", "Head", "find_head"]

_GLOBAL = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "ReduceMean"})
_SPATIAL = frozenset({"Conv", "AveragePool", "MaxPool"})
_REGIONS = frozenset({"RoiAlign", "MaxRoiPool"})


class AnySizeAlreadyError(DeclinedError):
    """There is no fixed-size head to rewrite: the graph pools globally or ends in a map."""


@dataclass(frozen=True, slots=True)
class Head:
    """A fully connected head.

    Attributes:
        feature_map: The tensor `(batch, channels, map_size.height, map_size.width)` before it.
        channels: Channels of the feature map.
        map_size: Height and width of the feature map at the training size.
        image_size: The training size that the map size comes from.
        flatten: Nodes that flatten the feature map.
        layers: The layers from there to the outputs, in file order.
        outputs: The graph outputs that the head makes.
    """

    feature_map: str
    channels: int
    map_size: Size
    image_size: Size
    flatten: tuple[int, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]


def find_head(model: onnx.ModelProto, size: Size | None = None) -> Head:
    """Find the fully connected head of a classifier, whatever exporter wrote it.

    Args:
        model: Not modified; its weights are not read.
        size: The training size; what the file declares or records, by default.

    Returns:
        The head.

    Raises:
        AnySizeAlreadyError: There is none, because the graph takes any size already.
        DeclinedError: Something on the way has no canonical form, or the size of the feature map
            is not determined; the message names the node.
        IllegalSizeError: The graph does not take images of `size`.
    """
    view = GraphView(model)
    size = size or trained_size(model)
    traced = None if size is None else traced_shapes(model, size)
    region = _Region(view, traced)
    outputs = _walk_back(view, region)
    if size is None or traced is None:
        raise _ambiguous(region)
    maps = {view.node(index).input[0]: index for index in sorted(region.flatten)}
    if len(maps) > 1:
        names = " and ".join(repr(name) for name in maps)
        raise DeclinedError(
            f"{view.label(max(maps.values()))}: the head flattens {names}, expected one map",
            node=view.node(max(maps.values())).name,
        )
    feature_map = unguarded(view, next(iter(maps)))
    _, channels, height, width = traced.shapes[feature_map]
    _check_closed(view, region)
    head = Head(
        feature_map=feature_map,
        channels=channels,
        map_size=Size(height, width),
        image_size=size,
        flatten=tuple(sorted(region.flatten)),
        layers=tuple(region.ordered()),
        outputs=outputs,
    )
    _check_features(head, view)
    return head


def _walk_back(view: GraphView, region: _Region) -> tuple[str, ...]:
    """Gather the head of every output that has one; the others take any size and stay alone."""
    outputs: list[str] = []
    without: AnySizeAlreadyError | None = None
    for output in view.model.graph.output:
        trial = region.fork()
        try:
            trial.walk_back(output.name)
        except AnySizeAlreadyError as exc:
            without = without or exc
            continue
        region.take(trial)
        outputs.append(output.name)
    if not outputs:
        raise without or AnySizeAlreadyError("the graph has no fully connected head")
    return tuple(outputs)


class _Region:
    """The nodes between the flattens and the outputs, gathered by walking back."""

    def __init__(self, view: GraphView, traced: TracedShapes | None) -> None:
        self.view = view
        self.flatten: set[int] = set()
        self.layers: dict[int, Layer] = {}
        self._traced = traced
        self._seen: set[str] = set()

    def fork(self) -> _Region:
        return _Region(self.view, self._traced)

    def take(self, other: _Region) -> None:
        self.flatten |= other.flatten
        self.layers |= other.layers

    def ordered(self) -> Iterator[Layer]:
        return (self.layers[index] for index in sorted(self.layers))

    def nodes(self) -> set[int]:
        inside = set(self.flatten)
        for layer in self.layers.values():
            inside.update(layer.nodes if isinstance(layer, Linear) else (layer.node,))
        return inside

    def walk_back(self, output: str) -> None:
        pending = [output]
        while pending:
            tensor = pending.pop()
            if tensor in self._seen:
                continue
            self._seen.add(tensor)
            index = self.view.producer(tensor)
            if index is None:
                raise DeclinedError(
                    f"the path from output {output!r} reaches {tensor!r} without a flatten"
                )
            pending += self._enter(index)

    def _enter(self, index: int) -> tuple[str, ...]:
        """Take a node into the region; return the tensors to go on from."""
        view, node = self.view, self.view.node(index)
        if is_flatten_spelling(node) and self._made_by(node.input[0]) in _REGIONS:
            raise AnySizeAlreadyError(
                f"{view.label(index)}: flattens regions of a map, pooled from a map of any size "
                "already; there is no fixed-size head",
                node=node.name,
            )
        if self._is_flatten(index):
            if self._is_pooled(node.input[0]):
                raise AnySizeAlreadyError(
                    f"{view.label(index)}: flattens a global pooling, which takes any size "
                    "already; there is no fixed-size head",
                    node=node.name,
                )
            self.flatten.add(index)
            return ()
        if self._is_noop(index):
            self.layers[index] = Pointwise(
                index, view.label(index), (node.input[0],), node.output[0], is_noop=True
            )
            return (node.input[0],)
        layer = read_layer(view, index)
        if layer is None:
            raise self._unknown(index)
        # A MatMul and its Add are one layer, filed under its last node.
        self.layers[layer.nodes[-1] if isinstance(layer, Linear) else index] = layer
        if isinstance(layer, Tail) and not self._ends(layer):
            raise DeclinedError(
                f"{layer.label}: {node.op_type} is followed by another layer, expected the end",
                node=node.name,
            )
        return layer.data if isinstance(layer, Pointwise) else (layer.data,)

    def _is_flatten(self, index: int) -> bool:
        if self._traced is None:
            return is_flatten_spelling(self.view.node(index))
        return is_flatten(self.view, index, self._traced)

    def _is_noop(self, index: int) -> bool:
        """Say whether a Flatten or Reshape of a flat tensor leaves it as it is."""
        node = self.view.node(index)
        if self._traced is None or not is_flatten_spelling(node):
            return False
        before = self._traced.shapes.get(node.input[0])
        after = self._traced.shapes.get(node.output[0])
        return before is not None and before == after and len(before) == 2

    def _is_pooled(self, tensor: str) -> bool:
        return self._made_by(tensor) in _GLOBAL

    def _made_by(self, tensor: str) -> str:
        index = self.view.producer(tensor)
        return "" if index is None else str(self.view.node(index).op_type)

    def _ends(self, tail: Tail) -> bool:
        return self.view.is_graph_output(tail.output) and not self.view.consumers(tail.output)

    def _unknown(self, index: int) -> DeclinedError:
        node, label = self.view.node(index), self.view.label(index)
        if node.op_type in _SPATIAL | _GLOBAL:
            return AnySizeAlreadyError(
                f"{label}: {node.op_type} leads to the output without a fully connected layer; "
                "the graph takes any size already",
                node=node.name,
            )
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        hint = (
            "; it is not a standard operator: export without runtime-specific fusion"
            if node.domain not in ("", "ai.onnx")
            else ""
        )
        return DeclinedError(
            f"{label}: {operator} in the fully connected head has no form that can be "
            f"rewritten{hint}",
            node=node.name,
        )


def _check_closed(view: GraphView, region: _Region) -> None:
    """Decline where something outside the head reads a tensor inside it."""
    inside = region.nodes()
    for index in sorted(inside):
        for output in view.node(index).output:
            for reader in view.consumers(output) if output else ():
                if reader not in inside:
                    raise DeclinedError(
                        f"{view.label(reader)}: reads {output!r} inside the fully connected head; "
                        "expected nothing else to",
                        node=view.node(reader).name,
                    )


def _check_features(head: Head, view: GraphView) -> None:
    """Decline where features do not line up, or a layer tells the positions of the map apart."""
    features = head.channels * head.map_size.area
    flat = {view.node(index).output[0] for index in head.flatten}
    for layer in head.layers:
        if isinstance(layer, Linear):
            if layer.data in flat and layer.in_features != features:
                raise DeclinedError(
                    f"{layer.label}: weight has {layer.in_features} inputs, expected {features}",
                    node=view.node(layer.nodes[0]).name,
                )
            continue
        data = layer.data if isinstance(layer, Pointwise) else (layer.data,)
        if flat.isdisjoint(data):
            continue
        if not flat.issuperset(data):
            raise DeclinedError(
                f"{layer.label}: joins the flattened map with a layer behind it, expected one",
                node=view.node(layer.node).name,
            )
        sizes = {math.prod(c.dims) for c in getattr(layer, "parameters", ())}
        has_positions = isinstance(layer, Pointwise) and (layer.is_batch_norm or sizes - {1})
        if isinstance(layer, Tail) or has_positions:
            raise DeclinedError(
                f"{layer.label}: works on the {features} flattened features one by one, so it "
                "tells the positions of the map apart; only the trained size can do that",
                node=view.node(layer.node).name,
            )
        flat.add(layer.output)
    if not any(isinstance(layer, Linear) for layer in head.layers):
        raise DeclinedError("the head flattens a map and has no fully connected layer behind it")


def _ambiguous(region: _Region) -> DeclinedError:
    """Say which maps would fit the first layer, so that the user can tell."""
    view = region.view
    flat = {view.node(index).output[0] for index in region.flatten}
    for layer in region.ordered():
        if isinstance(layer, Linear) and (layer.data in flat or not region.flatten):
            channels = _channels(view, region)
            options = " or ".join(_factorings(layer.in_features, channels))
            name = view.node(layer.nodes[0]).name
            return DeclinedError(
                f"{layer.label}: weight has {layer.in_features} inputs, which is {options}; "
                "give --size to say which",
                node=name,
            )
    return DeclinedError(
        "height and width of the input are symbolic and the training size is not recorded; "
        "give --size to say it"
    )


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


def _channels(view: GraphView, region: _Region) -> int | None:
    values = inferred_values(view.model)
    for index in region.flatten:
        value = values.get(view.node(index).input[0])
        dims = [] if value is None else value.type.tensor_type.shape.dim
        if len(dims) == 4:
            return int(dims[1].dim_value) or None
    return None
