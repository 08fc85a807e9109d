"""Graphs of onnx-graphsurgeon: to a ModelProto and back, without what it drops on the way.

Its import keeps names, operators, attributes, tensors, opsets and IR version. It drops the model's
metadata, version, domain and doc string, the doc strings and metadata of nodes and tensors,
attributes of rare types, and the listing of initializers among the inputs, which IR 3 demands. All
of that travels in an attribute of graphsurgeon's own objects: with whatever node or tensor is still
there at the end, in whatever order. `Graph.copy` makes new objects, which have none of it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import onnx
import onnx.helper
from google.protobuf.message import Message

from anysize.errors import UnsupportedModelError, UsageError
from anysize.surgery.storage import (
    DATA_FIELDS,
    Place,
    WeightPlace,
    all_tensors,
    copy_fields,
    is_loaded,
    load_tensor,
    place_of,
)
from anysize.words import one_line

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

__all__ = ["from_graphsurgeon", "is_graphsurgeon", "to_graphsurgeon"]

_Message = TypeVar("_Message", bound=Message)

# What graphsurgeon has a place for itself, by message.
_ITS_OWN = {
    "ModelProto": (
        "functions", "graph", "ir_version", "opset_import", "producer_name", "producer_version",
    ),
    "GraphProto": (
        "doc_string", "initializer", "name", "node", "output", "sparse_initializer", "value_info",
    ),
    "FunctionProto": (
        "attribute", "attribute_proto", "doc_string", "domain", "input", "name", "node",
        "opset_import", "output",
    ),
    "NodeProto": ("attribute", "domain", "input", "name", "op_type", "output"),
    "TensorProto": (
        "data_location", "data_type", "dims", "external_data", "name", "segment", *DATA_FIELDS,
    ),
    "ValueInfoProto": ("name", "type"),
}  # fmt: skip
# From this IR version on an initializer need not be listed among the graph's inputs, too.
_UNLISTED_IR = 4


def is_graphsurgeon(model: object) -> bool:
    """Say whether `model` is a graph of onnx-graphsurgeon, which is not imported to find out."""
    module = sys.modules.get("onnx_graphsurgeon")
    return module is not None and isinstance(model, module.Graph)


def to_graphsurgeon(model: onnx.ModelProto, place: WeightPlace | None = None) -> gs.Graph:
    """Make a graph of onnx-graphsurgeon of a model.

    Args:
        model: Belongs to the graph from then on: its weights are not copied, and are read when
            `Constant.values` is first asked for.
        place: Where the weights are that the model neither holds nor names as external data,
            such as those left in its file. These are loaded into it.

    Returns:
        The graph; `from_graphsurgeon` finds in it what graphsurgeon has no place for.

    Raises:
        UsageError: onnx-graphsurgeon is not installed.
        UnsupportedModelError: graphsurgeon cannot import the model.
        ModelFileError: Weights are not at `place`.
    """
    module = _module()
    for tensor in all_tensors(model):
        if not is_loaded(tensor) and place_of(tensor) is not Place.OTHER_FILE:
            load_tensor(tensor, place or Path())
    try:
        graph = module.import_onnx(model)
    except Exception as exc:  # graphsurgeon raises whatever its parts raise
        raise UnsupportedModelError(
            f"onnx-graphsurgeon cannot import the graph: {one_line(exc)}"
        ) from exc
    _keep(graph, _rest(model))
    _remember(graph, model.graph)
    for function, proto in zip(graph.functions, model.functions, strict=True):
        _keep(function, _rest(proto))
        _remember_nodes(function.nodes, proto.node)
    return graph


def from_graphsurgeon(graph: gs.Graph) -> onnx.ModelProto:
    """Make a model of a graph of onnx-graphsurgeon.

    Args:
        graph: Not modified. What `to_graphsurgeon` put beside it, its nodes and its tensors is
            written again.

    Returns:
        The model, with a copy of the weights; those that are external data stay external.

    Raises:
        UsageError: onnx-graphsurgeon is not installed.
        UnsupportedModelError: graphsurgeon cannot export the graph.
    """
    module = _module()
    try:
        model: onnx.ModelProto = module.export_onnx(graph)
    except Exception as exc:  # graphsurgeon raises whatever its parts raise
        raise UnsupportedModelError(
            f"onnx-graphsurgeon cannot export the graph: {one_line(exc)}"
        ) from exc
    for name in ("producer_name", "producer_version"):  # written where there are none, too
        if not getattr(model, name):
            model.ClearField(name)
    _put_back(graph, model)
    _restore(graph, model.graph)
    if model.ir_version < _UNLISTED_IR:
        _list_among_inputs(model.graph, {tensor.name for tensor in model.graph.initializer})
    for function, proto in zip(graph.functions, model.functions, strict=True):
        _put_back(function, proto)
        # In front of its own nodes stand those that graphsurgeon makes of its constants.
        _restore_nodes(function.nodes, proto.node[len(proto.node) - len(function.nodes) :])
    return model


def _module() -> Any:
    try:
        import onnx_graphsurgeon
    except ImportError as exc:
        raise UsageError(
            f"onnx-graphsurgeon is not installed ({exc}); pip install 'anysize[graphsurgeon]'"
        ) from exc
    return onnx_graphsurgeon


def _rest(message: _Message) -> _Message:
    """Copy of a message what graphsurgeon has no place for."""
    rest: _Message = type(message)()
    copy_fields(message, rest, leave_out=_ITS_OWN[type(message).__name__])
    return rest


def _keep(owner: Any, rest: Message) -> None:
    if rest.ListFields():
        vars(owner)[f"anysize_{type(rest).__name__}"] = rest


def _kept(owner: Any, kind: type[_Message]) -> _Message:
    """Return what was kept beside an object; an empty message where nothing was."""
    found: _Message = vars(owner).get(f"anysize_{kind.__name__}", kind())
    return found


def _put_back(owner: Any, message: Message, *, leave_out: Collection[str] = ()) -> None:
    kept = _kept(owner, type(message))
    for field, _ in kept.ListFields():
        if field.name not in leave_out:
            message.ClearField(field.name)  # a tensor that was never read has it still
    copy_fields(kept, message, leave_out=leave_out)


def _remember(graph: gs.Graph, proto: onnx.GraphProto) -> None:
    _keep(graph, _rest(proto))
    tensors = graph.tensors()
    for message in _described(proto):
        if message.name in tensors:
            _keep(tensors[message.name], _rest(message))
    _remember_nodes(graph.nodes, proto.node)


def _remember_nodes(nodes: Sequence[gs.Node], protos: Sequence[onnx.NodeProto]) -> None:
    for node, proto in zip(nodes, protos, strict=True):
        rest = _rest(proto)
        rest.attribute.extend(one for one in proto.attribute if one.name not in node.attrs)
        _keep(node, rest)
        for name, subgraph in _subgraphs(proto):
            _remember(node.attrs[name], subgraph)


def _restore(graph: gs.Graph, proto: onnx.GraphProto) -> None:
    tensors = graph.tensors()
    _put_back(graph, proto, leave_out=("input", "quantization_annotation"))
    kept = _kept(graph, onnx.GraphProto)
    proto.quantization_annotation.extend(
        one for one in kept.quantization_annotation if one.tensor_name in tensors
    )
    for message in _described(proto):
        if message.name in tensors:
            _put_back(tensors[message.name], message)
    _list_among_inputs(proto, {value.name for value in kept.input})
    made = {name for node in proto.node for name in node.output}
    for index in reversed(range(len(proto.value_info))):
        if proto.value_info[index].name not in made:  # what a subgraph reads from outside
            del proto.value_info[index]
    _restore_nodes(graph.nodes, proto.node)


def _restore_nodes(nodes: Sequence[gs.Node], protos: Sequence[onnx.NodeProto]) -> None:
    for node, proto in zip(nodes, protos, strict=True):
        _put_back(node, proto, leave_out=("attribute",))
        kept = _kept(node, onnx.NodeProto)
        proto.attribute.extend(one for one in kept.attribute if one.name not in node.attrs)
        for name, subgraph in _subgraphs(proto):
            if name in node.attrs:
                _restore(node.attrs[name], subgraph)


def _list_among_inputs(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Append the initializers called `names` to the inputs that are there."""
    listed = {value.name for value in graph.input}
    graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in graph.initializer
        if tensor.name in names and tensor.name not in listed
    )


def _described(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto | onnx.ValueInfoProto]:
    yield from graph.initializer
    yield from (*graph.value_info, *graph.input, *graph.output)


def _subgraphs(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    return ((one.name, one.g) for one in node.attribute if one.HasField("g"))
