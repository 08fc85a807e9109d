"""Fully connected layers → convolutions, on the same weights.

A layer of O units over a flattened C×h×w map is a convolution of O filters C×h×w, and one behind
it a 1×1 convolution (Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic
Segmentation", CVPR 2015). `(O, C·h·w)` and `(O, C, h, w)` are the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.numpy_helper

from anysize.heads import Output
from anysize.surgery.graph import Edits, Graph, NameMaker, element_type, set_attributes
from anysize.surgery.heads import (
    AxisMove,
    ClassOperator,
    Head,
    Layer,
    Linear,
    Pointwise,
    Reduction,
    Selection,
    declined,
)
from anysize.surgery.targets.weight_forms import WeightForms

__all__ = ["MAP_OUTPUT", "Converted", "Output", "plan_fc_to_conv"]

# Name of the output that `both` adds.
MAP_OUTPUT = "map"
_SIDES = ("map_height", "map_width")


@dataclass(frozen=True, slots=True)
class Converted:
    """A head as convolutions.

    Attributes:
        edits: What to change. Weights change by `dims` where they can; `Edits.derived` says which
            cannot.
        map_tensor: The dense map of the first output, before any Softmax.
    """

    edits: Edits
    map_tensor: str


def plan_fc_to_conv(graph: Graph, heads: Sequence[Head], *, output: Output = "map") -> Converted:
    """Plan the edits that turn fully connected heads into convolutions.

    Args:
        graph: The graph that `heads` were found in.
        heads: One for each feature map.
        output: `map` lets every output become its dense map, under its own name; `logits` takes
            the mean over the map's cells, before a Softmax or the like at the end; `both` does
            that and adds the output `map`, that of the scores before any Softmax. Outputs that
            are made of other scores get maps of their own, `map_2` and so on.

    Raises:
        DeclinedError: The weights have a form that cannot be kept, or scores to be averaged are
            not `(batch, classes)`.
    """
    plan = _Plan(graph, heads, output)
    return Converted(plan.edits, plan.maps[heads[0].scores[0]])


class _Plan:
    def __init__(self, graph: Graph, heads: Sequence[Head], output: Output) -> None:
        self.edits = Edits()
        # Tensor of the original → the map that takes its place.
        self.maps = {entry: head.feature_map for head in heads for entry in head.entries}
        self._graph = graph
        self._outputs = frozenset(name for head in heads for name in head.outputs)
        self._output = output
        self._names = NameMaker(graph.model)
        self._forms = WeightForms(graph, self.edits, self._names)
        # Map → its declaration as an output.
        self._shapes: dict[str, tuple[int | str, ...]] = {
            head.feature_map: ("batch", head.channels, *_SIDES) for head in heads
        }
        scores = _scores_in_order(graph, heads) if output != "map" else ()
        # Scores to average → the name of their map.
        averaged = {
            name: self._names(MAP_OUTPUT if output == "both" else f"{name}_map") for name in scores
        }
        for head in heads:
            self._convert_head(head, averaged)
        if output == "both":
            kind = element_type(graph, heads[0].feature_map)
            self.edits.new_outputs += self._declared(averaged.values(), kind)

    def _convert_head(self, head: Head, averaged: Mapping[str, str]) -> None:
        kept = _behind(head, averaged) if averaged else set()
        for layer in head.layers:
            if layer.nodes[-1] in kept:
                continue
            self._convert(layer)
            for name in layer.outputs:
                if name in averaged:
                    self._average(layer, name, averaged[name])
        if not averaged:
            for name in head.outputs:
                self.edits.outputs[name] = self._shapes[self.maps[name]]

    def _convert(self, layer: Layer) -> None:
        if isinstance(layer, Linear):
            self._linear(layer)
        elif isinstance(layer, AxisMove):
            self._move(layer)
        elif isinstance(layer, Pointwise):
            self._pointwise(layer)
        elif isinstance(layer, Reduction):
            self._reduction(layer)
        elif isinstance(layer, Selection):
            self._selection(layer)
        else:
            self._tail(layer)

    def _linear(self, layer: Linear) -> None:
        nodes = self._forms.convolution(layer, self.maps[layer.data], layer.output)
        self.edits.nodes[layer.nodes[-1]] = nodes
        self._made(layer.output, ("batch", layer.out_features, *_SIDES))

    def _move(self, layer: AxisMove) -> None:
        source = self.maps[layer.data]
        self.edits.nodes[layer.node] = []
        self.maps[layer.output] = source
        is_output = layer.output in self._outputs and self._output == "map"
        if is_output:
            name = self._graph.node(layer.node).name
            self.edits.nodes[layer.node] = [_make("Identity", source, layer.output, name)]
            self._made(layer.output, self._shapes[source])

    def _pointwise(self, layer: Pointwise) -> None:
        old = self._graph.node(layer.node)
        nodes: list[onnx.NodeProto] = []
        node = onnx.NodeProto()
        node.CopyFrom(old)
        for position, name in enumerate(old.input):
            node.input[position] = self.maps.get(name, name) if name in layer.inputs else name
        for parameter in layer.parameters:
            placed = self._forms.place(layer, parameter.constant)
            node.input[parameter.position] = placed.name
            nodes += placed.nodes
            if len(parameter.constant.dims) == 1:  # before opset 7 its place is said
                set_attributes(node, axis=1)
        if nodes or node != old:
            self.edits.nodes[layer.node] = [*nodes, node]
        shapes = [self._shapes[self.maps[name]] for name in layer.inputs]
        widest = [shape for shape in shapes if shape[1] == layer.layout.channels]
        self._made(layer.output, (widest or shapes)[0])

    def _reduction(self, layer: Reduction) -> None:
        node = onnx.NodeProto()
        node.CopyFrom(self._graph.node(layer.node))
        node.input[0] = self.maps[layer.data]
        if len(node.input) > 1:
            node.input[1] = self._axes_of_map(node.input[1])
        else:
            set_attributes(node, axes=[1])
        set_attributes(node, keepdims=1)
        self.edits.nodes[layer.node] = [node]
        self._made(layer.output, ("batch", 1, *_SIDES))

    def _selection(self, layer: Selection) -> None:
        node = onnx.NodeProto()
        node.CopyFrom(self._graph.node(layer.node))
        node.input[: len(layer.inputs)] = [self.maps[name] for name in layer.inputs]
        if node.op_type != "Slice":
            set_attributes(node, axis=1)
        elif len(node.input) > 3:
            node.input[3] = self._axes_of_map(node.input[3])
        else:
            set_attributes(node, axes=[1])
        self.edits.nodes[layer.node] = [node]
        for name, channels in zip(layer.outputs, layer.channels, strict=True):
            self._made(name, ("batch", channels, *_SIDES))

    def _axes_of_map(self, name: str) -> str:
        """Return a tensor that says axis 1, `name` itself where that does."""
        known = self._graph.small_constant(name)
        if known is not None and known.ravel().tolist() == [1]:
            return name
        axes = onnx.numpy_helper.from_array(np.array([1], np.int64), self._names("axes"))
        self.edits.added.append(axes)
        return axes.name

    def _tail(self, layer: ClassOperator) -> None:
        old, source = self._graph.node(layer.node), self.maps[layer.data]
        node = onnx.NodeProto()
        node.CopyFrom(old)
        set_attributes(node, axis=3 if layer.needs_rows else 1)
        node.input[0] = source
        classes = layer.layout.channels if layer.keeps_rank else None
        shape: tuple[int | str, ...] = ("batch", *_SIDES)
        for name in filter(None, layer.outputs):
            self._made(name, shape if classes is None else ("batch", classes or "kept", *_SIDES))
        if not layer.needs_rows:
            self.edits.nodes[layer.node] = [node]
            return
        # The operator takes all axes from its own on: only the last axis means one row.
        (output,) = layer.outputs
        before, after = self._names(f"{output}_rows"), self._names(f"{output}_scores")
        node.input[0], node.output[0] = before, after
        self.edits.nodes[layer.node] = [
            _make("Transpose", source, before, f"{old.name}_to_rows", perm=[0, 2, 3, 1]),
            node,
            _make("Transpose", after, output, f"{old.name}_to_map", perm=[0, 3, 1, 2]),
        ]

    def _average(self, layer: Layer, scores: str, dense: str) -> None:
        """Let `scores` be the mean over the cells of the map that took its place, now `dense`."""
        layout = layer.layout_of(scores)
        axes = layout.axes
        if axes[:2] != ("N", "C") or any(axes[2:]) or len(axes) not in (2, 4):
            raise declined(
                self._graph,
                layer.nodes[-1],
                f"makes scores of shape {list(layout.shape)}, expected (batch, classes) to "
                "average; use --output map",
            )
        index = layer.nodes[-1]
        nodes = list(self._nodes_at(index))
        if self.maps[scores] == scores:
            maker = next(node for node in nodes if scores in node.output)
            maker.output[list(maker.output).index(scores)] = dense
        elif self._output == "both":
            nodes.append(_make("Identity", self.maps[scores], dense, dense))
        else:
            dense = self.maps[scores]
        pooled = self._names(f"{scores}_mean") if len(axes) == 2 else scores
        nodes.append(_make("GlobalAveragePool", dense, pooled, f"{scores}_mean"))
        if len(axes) == 2:
            nodes.append(_make("Flatten", pooled, scores, f"{scores}_flatten", axis=1))
        self.edits.nodes[index] = nodes
        self.maps[scores] = dense
        self._shapes[dense] = ("batch", layout.channels, *_SIDES)

    def _declared(self, maps: Iterable[str], kind: int) -> list[onnx.ValueInfoProto]:
        return [onnx.helper.make_tensor_value_info(m, kind, self._shapes[m]) for m in maps]

    def _nodes_at(self, index: int) -> Sequence[onnx.NodeProto]:
        if index in self.edits.nodes:
            return self.edits.nodes[index]
        copy = onnx.NodeProto()
        copy.CopyFrom(self._graph.node(index))
        return [copy]

    def _made(self, name: str, shape: tuple[int | str, ...]) -> None:
        self.maps[name] = name
        self._shapes[name] = shape


def _scores_in_order(graph: Graph, heads: Sequence[Head]) -> tuple[str, ...]:
    """Name what the heads' outputs are read from, in the order of the graph's outputs."""
    scores = {
        output: name
        for head in heads
        for output, name in zip(head.outputs, head.scores, strict=True)
    }
    names = [output.name for output in graph.model.graph.output if output.name in scores]
    return tuple(dict.fromkeys(scores[name] for name in names))


def _behind(head: Head, scores: Collection[str]) -> set[int]:
    """Return the nodes between scores and outputs, which work on the mean as they did before."""
    made = {name: layer for layer in head.layers for name in layer.outputs}
    kept: set[int] = set()
    pending = list(head.outputs)
    while pending:
        name = pending.pop()
        if name not in scores:
            kept.update(made[name].nodes)
            pending += made[name].inputs
    return kept


def _make(
    operator: str, data: str, output: str, name: str, **attributes: int | list[int]
) -> onnx.NodeProto:
    node = onnx.helper.make_node(operator, [data], [output], name)
    node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes.items())
    return node
