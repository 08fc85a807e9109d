"""Fully connected layers → convolutions, on the same weights.

A layer of O units over a flattened C×h×w map is a convolution of O filters C×h×w, and one behind
it a 1×1 convolution (Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic
Segmentation", CVPR 2015). `(O, C·h·w)` and `(O, C, h, w)` are the same bytes.
"""

from __future__ import annotations

import math
from typing import Literal

import onnx

from anysize.errors import DeclinedError
from anysize.surgery.edit import Derived, Edits, unique_name
from anysize.surgery.graph import GraphView
from anysize.surgery.heads import Head
from anysize.surgery.layers import Linear, Pointwise, Tail
from anysize.surgery.skeleton import copy_fields
from anysize.surgery.weights import Constant

__all__ = ["MAP_OUTPUT", "Output", "plan_fc_to_conv"]

Output = Literal["map", "logits", "both"]

# Name of the output that `both` adds.
MAP_OUTPUT = "map"


def plan_fc_to_conv(view: GraphView, head: Head, *, output: Output = "map") -> Edits:
    """Plan the edits that turn a fully connected head into convolutions.

    Args:
        view: The graph that `head` was found in.
        head: The head.
        output: `map` lets every output become its dense map, under its own name; `logits` takes
            the mean over the map's cells, before a Softmax, LogSoftmax or ArgMax at the end;
            `both` does that and adds the output `map`.

    Returns:
        The plan. Weights change by `dims` where they can; `Edits.derived` says which cannot.

    Raises:
        DeclinedError: `both` was asked for and there is no single, plain output.
    """
    return _Plan(view, head, output).edits


class _Plan:
    def __init__(self, view: GraphView, head: Head, output: Output) -> None:
        self.edits = Edits()
        self._view = view
        self._head = head
        self._output = output
        self._flat = set()
        self._taken: list[str] = []
        for index in head.flatten:
            self._flat.add(view.node(index).output[0])
            self.edits.nodes[index] = []
        for layer in head.layers:
            if isinstance(layer, Linear):
                self._linear(layer)
            elif isinstance(layer, Pointwise):
                self._pointwise(layer)
            elif output == "map":
                self._tail(layer)
        for name in head.outputs:
            if output == "map":
                self._declare_map(name)
            else:
                self._average(name)

    def _linear(self, layer: Linear) -> None:
        head, node = self._head, self._view.node(layer.nodes[0])
        dims = (layer.out_features, layer.in_features, 1, 1)
        if layer.data in self._flat:
            dims = (layer.out_features, head.channels, head.map_size.height, head.map_size.width)
        inputs = [self._source(layer.data), self._weight(layer, dims)]
        if layer.bias is not None and layer.beta != 0.0:
            inputs.append(self._bias(layer, layer.bias))
        conv = onnx.helper.make_node("Conv", inputs, [layer.output], kernel_shape=dims[2:])
        copy_fields(node, conv, leave_out=("op_type", "input", "output", "attribute"))
        for index in layer.nodes:
            self.edits.nodes[index] = []
        self.edits.nodes[layer.nodes[-1]] = [conv]

    def _weight(self, layer: Linear, dims: tuple[int, ...]) -> str:
        weight = layer.weight
        if weight.is_transposed:
            reason = f"{layer.label} stores its weight as (in, out)"
        elif layer.alpha != 1.0:
            reason = f"{layer.label} scales its weight by {layer.alpha:g}"
        else:
            return self._reshaped(weight, dims, layer.label)
        return self._derive(
            weight, dims, reason, is_transposed=weight.is_transposed, scale=layer.alpha
        )

    def _bias(self, layer: Linear, bias: Constant) -> str:
        dims = (layer.out_features,)
        if layer.beta != 1.0:
            reason = f"{layer.label} scales its bias by {layer.beta:g}"
            return self._derive(bias, dims, reason, scale=layer.beta)
        if math.prod(bias.dims) != layer.out_features:
            return self._derive(bias, dims, f"{layer.label} has one bias for all units")
        return self._reshaped(bias, dims, layer.label)

    def _reshaped(self, constant: Constant, dims: tuple[int, ...], label: str) -> str:
        if constant.dims == dims:
            return constant.root
        if constant.is_shared:
            return self._derive(constant, dims, f"{label} shares {constant.root!r} with another")
        self.edits.dims[constant.root] = dims
        return constant.root

    def _derive(
        self,
        constant: Constant,
        dims: tuple[int, ...],
        reason: str,
        *,
        is_transposed: bool = False,
        scale: float = 1.0,
    ) -> str:
        name = self._unique(f"{constant.root}_conv")
        self.edits.derived.append(
            Derived(
                name, constant.root, dims, reason, is_transposed=is_transposed, scale=scale
            )
        )  # fmt: skip
        return name

    def _pointwise(self, layer: Pointwise) -> None:
        old = self._view.node(layer.node)
        if not self._flat.isdisjoint(layer.data):
            # Works on the map itself; whatever reads it reads a map, too.
            self._flat.add(layer.output)
        node = onnx.NodeProto()
        node.CopyFrom(old)
        if layer.is_noop:
            node = onnx.helper.make_node("Identity", [old.input[0]], [old.output[0]], old.name)
        constants = iter(layer.parameters)
        for position, name in enumerate(old.input):
            if name in layer.data:
                node.input[position] = self._source(name)
            elif layer.parameters:
                # One element a feature lies on axis 1 of a map as (features, 1, 1).
                constant = next(constants)
                features = math.prod(constant.dims)
                if features > 1:
                    dims = (features, 1, 1)
                    node.input[position] = self._reshaped(constant, dims, layer.label)
        if node != old:
            self.edits.nodes[layer.node] = [node]

    def _tail(self, layer: Tail) -> None:
        old = self._view.node(layer.node)
        node = onnx.NodeProto()
        node.CopyFrom(old)
        axis = 3 if layer.flattens else 1
        others = [entry for entry in old.attribute if entry.name != "axis"]
        del node.attribute[:]
        node.attribute.extend([*others, onnx.helper.make_attribute("axis", axis)])
        if not layer.flattens:
            self.edits.nodes[layer.node] = [node]
            return
        # Before opset 13 the operator flattens from its axis: only the last axis means one row.
        before = self._unique(f"{layer.output}_rows")
        after = self._unique(f"{layer.output}_scores")
        node.input[0], node.output[0] = before, after
        self.edits.nodes[layer.node] = [
            _make("Transpose", layer.data, before, f"{old.name}_to_rows", perm=[0, 2, 3, 1]),
            node,
            _make("Transpose", after, layer.output, f"{old.name}_to_map", perm=[0, 3, 1, 2]),
        ]

    def _declare_map(self, name: str) -> None:
        classes = self._classes(name)
        tail = self._tail_of(name)
        sides = ("map_height", "map_width")
        if tail is None or tail.keeps_classes:
            self.edits.outputs[name] = ("batch", classes, *sides)
        else:
            self.edits.outputs[name] = (
                ("batch", 1, *sides) if tail.keeps_rank else ("batch", *sides)
            )

    def _average(self, name: str) -> None:
        """Let the output be the mean over the map's cells."""
        tail = self._tail_of(name)
        if self._output == "both" and (tail is not None or len(self._head.outputs) > 1):
            what = tail.label if tail is not None else f"output {name!r}"
            raise DeclinedError(
                f"{what}: --output both needs one output without Softmax, LogSoftmax or ArgMax; "
                "use map or logits",
                node=self._view.node(tail.node).name if tail is not None else "",
            )
        logits = tail.data if tail is not None else name
        index = self._view.producer(logits)
        assert index is not None
        nodes = self.edits.nodes.get(index)
        if nodes is None:
            nodes = [onnx.NodeProto()]
            nodes[0].CopyFrom(self._view.node(index))
        dense = MAP_OUTPUT if self._output == "both" else f"{logits}_map"
        dense, pooled = self._unique(dense), self._unique(f"{logits}_mean")
        nodes[-1].output[0] = dense
        self.edits.nodes[index] = [
            *nodes,
            _make("GlobalAveragePool", dense, pooled, f"{logits}_mean"),
            _make("Flatten", pooled, logits, f"{logits}_flatten", axis=1),
        ]
        if self._output == "both":
            original = next(o for o in self._view.model.graph.output if o.name == name)
            shape = ("batch", self._classes(name), "map_height", "map_width")
            element = original.type.tensor_type.elem_type
            value = onnx.helper.make_tensor_value_info(dense, element, shape)
            self.edits.new_outputs.append(value)

    def _tail_of(self, name: str) -> Tail | None:
        for layer in self._head.layers:
            if isinstance(layer, Tail) and layer.output == name:
                return layer
        return None

    def _classes(self, name: str) -> int:
        """Follow an output back to the units of the layer that makes it."""
        made = {layer.output: layer for layer in self._head.layers}
        while True:
            layer = made[name]
            if isinstance(layer, Linear):
                return layer.out_features
            name = layer.data[0] if isinstance(layer, Pointwise) else layer.data

    def _source(self, name: str) -> str:
        is_flattened = any(name == self._view.node(index).output[0] for index in self._head.flatten)
        return self._head.feature_map if is_flattened else name

    def _unique(self, wanted: str) -> str:
        name = unique_name(self._view.model, wanted, self._taken)
        self._taken.append(name)
        return name


def _make(
    operator: str, data: str, output: str, name: str, **attributes: int | list[int]
) -> onnx.NodeProto:
    node = onnx.helper.make_node(operator, [data], [output], name)
    node.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes.items())
    return node
