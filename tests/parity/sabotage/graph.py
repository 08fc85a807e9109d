"""Spoiling one place of a healthy ONNX graph, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["Graph"]

Array = NDArray[np.generic]


class Graph:
    """A model that is edited in place.

    Args:
        model: Of opset 18, with its weights inside.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._made: list[onnx.NodeProto] = []
        self._count = 0
        # Shapes of tensors that may be about to change.
        model.graph.ClearField("value_info")

    def node(self, operator: str, place: int = 0) -> onnx.NodeProto:
        """Find the node of that type, the first one or the one at `place`."""
        return [node for node in self.model.graph.node if node.op_type == operator][place]

    def weight(self, name: str) -> Array:
        """Read an initializer."""
        return numpy_helper.to_array(self._initializer(name))

    def replace(self, name: str, array: Array) -> None:
        """Give an initializer another value of its own type."""
        tensor = self._initializer(name)
        array = np.asarray(array).astype(numpy_helper.to_array(tensor).dtype)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))

    def set(self, node: onnx.NodeProto, **attributes: object) -> None:
        """Set attributes of a node, and leave the others."""
        kept = [one for one in node.attribute if one.name not in attributes]
        made = [helper.make_attribute(name, value) for name, value in attributes.items()]
        node.ClearField("attribute")
        node.attribute.extend((*kept, *made))

    def turn(self, node: onnx.NodeProto, operator: str, **attributes: object) -> None:
        """Make a node one of another type on the same first input."""
        node.op_type = operator
        del node.input[1:]
        node.ClearField("attribute")
        self.set(node, **attributes)

    def constant(self, values: object, dtype: type = np.float32) -> str:
        """Add an initializer; returns its name."""
        self._count += 1
        name = f"sabotage_{self._count}"
        tensor = numpy_helper.from_array(np.asarray(values, dtype), name)
        self.model.graph.initializer.append(tensor)
        return name

    def integers(self, *values: int) -> str:
        """Add an int64 initializer of rank 1; returns its name."""
        return self.constant(values, np.int64)

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node with one output, within `splice`; returns the output's name."""
        self._count += 1
        name = f"sabotage_{self._count}"
        self._made.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def splice(self, tensor: str, build: Callable[[str], str]) -> None:
        """Put nodes between a tensor and everybody who reads it.

        Args:
            tensor: The output of a node, or the graph's input.
            build: Adds the nodes, given the name of what they read; returns what to read instead.
        """
        nodes = list(self.model.graph.node)
        readers = [(node, i) for node in nodes for i, t in enumerate(node.input) if t == tensor]
        made_by = [place for place, node in enumerate(nodes) if tensor in node.output]
        self._made = []
        if made_by:  # the graph's outputs keep their names
            producer = nodes[made_by[0]]
            before = f"{tensor}_before"
            producer.output[list(producer.output).index(tensor)] = before
            last = build(before)
            self._made.append(helper.make_node("Identity", [last], [tensor], f"{tensor}_after"))
        else:
            last = build(tensor)
            for node, place in readers:
                node.input[place] = last
        start = made_by[0] + 1 if made_by else 0
        self.model.graph.ClearField("node")
        self.model.graph.node.extend((*nodes[:start], *self._made, *nodes[start:]))

    def insert(self, node: onnx.NodeProto, place: int, operator: str, *constants: str) -> None:
        """Put an operator before one input of a node, and leave other readers alone."""
        self._count += 1
        name = f"sabotage_{self._count}"
        made = helper.make_node(operator, [node.input[place], *constants], [name], name)
        node.input[place] = name
        self.model.graph.node.insert(list(self.model.graph.node).index(node), made)

    def declare(self, output: str, rank: int, kind: int = onnx.TensorProto.FLOAT) -> None:
        """Declare the rank and type of an output, which may be a new one, and none of its axes."""
        infos = {info.name: info for info in self.model.graph.output}
        infos[output] = helper.make_tensor_value_info(output, kind, [None] * rank)
        self._put_outputs(list(infos.values()))

    def outputs(self, *names: str) -> None:
        """Make these outputs, in this order, the graph's only ones."""
        known = {info.name: info for info in self.model.graph.output}
        self._put_outputs([known[name] for name in names])

    def rename(self, tensor: str, name: str) -> None:
        """Give a tensor another name everywhere but among the graph's outputs."""
        for node in self.model.graph.node:
            for names in (node.input, node.output):
                names[:] = [name if one == tensor else one for one in names]

    def _put_outputs(self, infos: Sequence[onnx.ValueInfoProto]) -> None:
        copies = [onnx.ValueInfoProto.FromString(info.SerializeToString()) for info in infos]
        self.model.graph.ClearField("output")
        self.model.graph.output.extend(copies)

    def _initializer(self, name: str) -> onnx.TensorProto:
        (found,) = (tensor for tensor in self.model.graph.initializer if tensor.name == name)
        return found
