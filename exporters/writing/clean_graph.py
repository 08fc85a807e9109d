"""The last tidying of a graph: nothing in it that says nothing."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from anysize.exporters.writing.strip_trace import drop_unused_initializers
from anysize.surgery.graph import opset_version
from anysize.surgery.shapes import NodeFolder
from anysize.surgery.storage import small_array

__all__ = ["minimise"]


def minimise(model: onnx.ModelProto) -> None:
    """Fold small constants, drop Identity and dead nodes, and share equal small constants.

    The model is changed in place; its inputs and outputs keep their names, and weights stay as
    they are.
    """
    _drop_identities(model.graph)
    _fold_constants(model)
    _share_constants(model.graph)
    _drop_dead_nodes(model.graph)
    drop_unused_initializers(model)


def _drop_identities(graph: onnx.GraphProto) -> None:
    outputs = {output.name for output in graph.output}
    producers = {name: node for node in graph.node for name in node.output}
    for node in [node for node in graph.node if node.op_type == "Identity" and not node.domain]:
        source, result = node.input[0], node.output[0]
        producer = producers.get(source)
        if result not in outputs:
            _redirect(graph, result, source)
        elif producer is not None and source not in outputs:
            place = list(producer.output).index(source)
            _redirect(graph, source, result)
            producer.output[place] = result
            producers[result] = producer
        else:  # an output that is an input, or two names of one output
            continue
        graph.node.remove(node)


def _redirect(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def _fold_constants(model: onnx.ModelProto) -> None:
    graph, opset = model.graph, opset_version(model)
    outputs = {output.name for output in graph.output}
    values: dict[str, np.ndarray] = {}
    for tensor in graph.initializer:
        array = small_array(tensor)
        if array is not None:
            values[tensor.name] = array
    folded = []
    for node in graph.node:
        if outputs.intersection(node.output):
            continue
        results = NodeFolder(node, opset).fold([values.get(name) for name in node.input])
        if results is None:
            continue
        for name, array in zip(node.output, results, strict=False):
            values[name] = array
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        folded.append(node)
    for node in folded:
        graph.node.remove(node)


def _share_constants(graph: onnx.GraphProto) -> None:
    """Let nodes read one of equal small constants; parameters stay apart, each by its name."""
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    for tensor in graph.initializer:
        array = small_array(tensor)
        # A constant is named after its reader, `layer/shape`, a parameter `layer.weight`.
        if array is None or "/" not in tensor.name:
            continue
        key = (int(tensor.data_type), array.shape, array.tobytes())
        shared = first.setdefault(key, tensor.name)
        if shared != tensor.name:
            _redirect(graph, tensor.name, shared)


def _drop_dead_nodes(graph: onnx.GraphProto) -> None:
    read = {output.name for output in graph.output}
    dead = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            read.update(node.input)
        else:
            dead.append(node)
    for node in dead:
        graph.node.remove(node)
