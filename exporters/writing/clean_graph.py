"""The last cleaning of a graph: nothing in it that says nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from anysize.surgery.graph import opset_version, reads
from anysize.surgery.shapes import NodeFolder
from anysize.surgery.storage import small_array

__all__ = ["clean_graph", "drop_unused"]


def clean_graph(model: onnx.ModelProto) -> None:
    """Fold small constants, drop Identity and dead nodes, and share equal small constants.

    The model is changed in place; its inputs and outputs keep their names, and weights stay as
    they are. The passes of onnx_ir would share equal weights, too, and know nothing of those that
    are held outside the model.
    """
    _drop_identities(model.graph)
    _fold_constants(model)
    _share_constants(model.graph)
    drop_unused(model)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove, in place, nodes and initializers that no output is computed from."""
    graph = model.graph
    read = {output.name for output in graph.output}
    for index in reversed(range(len(graph.node))):
        if read.intersection(graph.node[index].output):
            read.update(reads(graph.node[index]))
        else:
            del graph.node[index]
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in read:
            del graph.initializer[index]


def _drop_identities(graph: onnx.GraphProto) -> None:
    outputs = {output.name for output in graph.output}
    producers = {name: node for node in graph.node for name in node.output}
    for node in [node for node in graph.node if node.op_type == "Identity" and not node.domain]:
        source, result = node.input[0], node.output[0]
        producer = producers.get(source)
        if result not in outputs:
            _redirect(graph, {result: source})
        elif producer is not None and source not in outputs:
            place = list(producer.output).index(source)
            _redirect(graph, {source: result})
            producer.output[place] = result
            producers[result] = producer
        else:  # an output that is an input, or two names of one output
            continue
        graph.node.remove(node)


def _redirect(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Let nodes read other tensors: old name → new name."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in names:
                node.input[place] = names[name]


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
    shared: dict[str, str] = {}
    for tensor in graph.initializer:
        array = small_array(tensor)
        # A constant is named after its reader, `layer/shape`, a parameter `layer.weight`.
        if array is not None and "/" in tensor.name:
            key = (int(tensor.data_type), array.shape, array.tobytes())
            shared[tensor.name] = first.setdefault(key, tensor.name)
    _redirect(graph, shared)
