"""Nodes and constants to be put into a graph, under names that are free there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from anysize.surgery.graph import opset_version

__all__ = ["Emitter"]


class Emitter:
    """Collects the nodes that replace another node, and the constants that they read.

    Nothing is put into the model: that is for the caller, who knows where it belongs. Every name
    starts with `prefix`; equal constants are shared.

    Args:
        model: What they are for.
        prefix: The name of a node or tensor that is replaced or added, and so nobody else's.

    Attributes:
        nodes: The nodes so far, in order.
        initializers: The constants so far.
        opset: The model's opset, whose forms of the operators have to be used.
    """

    def __init__(self, model: onnx.ModelProto, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.opset = opset_version(model)
        self._prefix = prefix
        graph = model.graph
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._taken = {name for node in graph.node for name in (*node.output, node.name)}
        self._taken |= {tensor.name for tensor in graph.initializer}
        self._taken |= {value.name for value in (*graph.input, *graph.output)}

    def _name(self, stem: str) -> str:
        name, count = f"{self._prefix}/{stem}", 1
        while name in self._taken:
            count += 1
            name = f"{self._prefix}/{stem}_{count}"
        self._taken.add(name)
        return name

    def constant(self, values: npt.ArrayLike, *, dtype: npt.DTypeLike = np.int64) -> str:
        """Add an initializer, or find the equal one that is there; returns its name."""
        array = np.asarray(values, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._name("constant")
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def node(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output, named `output` where given; returns the output's name."""
        return self.nodes_out(op_type, *inputs, outputs=[output], **attributes)[0]

    def nodes_out(
        self, op_type: str, *inputs: str, outputs: list[str], **attributes: Any
    ) -> list[str]:
        """Add a node with one output for each of `outputs`; an empty one gets a free name."""
        name = self._name(op_type.lower())
        names = [
            output or (name if len(outputs) == 1 else f"{name}_{i}")
            for i, output in enumerate(outputs)
        ]
        self.nodes.append(helper.make_node(op_type, inputs, names, name=name, **attributes))
        return names
