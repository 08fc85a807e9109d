"""A graph in two at some tensors: what makes them, and what is made of them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import onnx

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size
from anysize.surgery.graph import Graph, Model, attribute, inferred, reads
from anysize.surgery.metadata import FileMetadata, write_metadata
from anysize.surgery.passes import reshape_to_flatten
from anysize.surgery.storage import (
    copy_fields,
    is_loaded,
    load_tensor,
)

__all__ = ["keep_outputs", "split_at"]


def split_at(
    model: Model,
    *tensors: str,
    size: Size | None = None,
    source: Path | None = None,
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Split a model at `tensors` into the part that computes them and the part that reads them.

    Each half gets copies of the weights that it needs and of no others. Where the training size is
    known, every spelling of a flatten is written as Flatten first: so the second half needs no
    shape of the image, and takes any batch.

    Args:
        model: Not modified.
        tensors: Every path from the image to an output that depends on one of them runs through
            one of them.
        size: The training size; what the file declares or records, by default.
        source: The file that `model` was loaded from: external weights are brought in, so that a
            runtime can take a half from memory. Without it they stay external.

    Returns:
        `(features, head)`: from the model's inputs to `tensors`, and from `tensors` to those of
        the model's outputs that are made of them. `tensors` are declared with their ranks and
        symbolic axes.

    Raises:
        UnsupportedModelError: No node makes one of them, or the second half reads something else
            of the first.
    """
    whole = Graph.of(model)
    model, graph = whole.model, whole.light()
    # A graph whose shapes cannot be followed is split as it stands.
    with contextlib.suppress(UnsupportedModelError):
        reshape_to_flatten(graph, size)
    for tensor in tensors:
        if graph.producer(tensor) is None:
            raise UnsupportedModelError(f"tensor {tensor!r}: no node of the graph makes it")
    dependent = set().union(*(graph.downstream(tensor) for tensor in tensors))
    made = {name for index in dependent for name in graph.node(index).output} - set(tensors)
    outputs = [output for output in model.graph.output if output.name in made]
    first = graph.upstream(*tensors)
    second = graph.upstream(*(output.name for output in outputs), until=tensors)
    inputs = {value.name for value in model.graph.input} - _initializers(model)
    batches = _batches_read(graph, second, inputs, tensors[0])
    for index in sorted(second - batches.keys()):
        for name in sorted(inputs & set(graph.node(index).input)):
            raise UnsupportedModelError(
                f"{graph.label(index)}: reads {name!r} past {' and '.join(map(repr, tensors))}; "
                "the graph cannot be split there"
            )
    known = inferred(whole)
    boundaries = [_boundary(model, tensor, known.get(tensor)) for tensor in tensors]
    read_first = {index: graph.node(index) for index in first}
    read_second = {index: graph.node(index) for index in second} | batches
    features = _part(model, read_first, list(model.graph.input), boundaries, source)
    head = _part(model, read_second, boundaries, outputs, source)
    return features, head


def _batches_read(
    graph: Graph, indices: set[int], images: set[str], boundary: str
) -> dict[int, onnx.NodeProto]:
    """Let every Shape that is asked for the batch of an image alone be that of the boundary."""
    found: dict[int, onnx.NodeProto] = {}
    for index in indices:
        node = graph.node(index)
        if node.op_type != "Shape" or node.input[0] not in images:
            continue
        is_first_axis = attribute(node, "start", 0) == 0 and attribute(node, "end") == 1
        if is_first_axis or all(_takes_first(graph, i) for i in graph.consumers(node.output[0])):
            found[index] = onnx.NodeProto()
            found[index].CopyFrom(node)
            found[index].input[0] = boundary
    return found


def _takes_first(graph: Graph, index: int) -> bool:
    """Say whether a node takes the first element of a list, and nothing else."""
    node = graph.node(index)
    if node.op_type not in ("Gather", "Slice"):
        return False
    numbers = [graph.small_constant(name) for name in node.input[1:3]]
    wanted = [0] if node.op_type == "Gather" else [0, 1]
    return len(numbers) == len(wanted) and all(
        value is not None and value.ravel().tolist() == [number]
        for value, number in zip(numbers, wanted, strict=True)
    )


def _part(
    model: onnx.ModelProto,
    nodes: dict[int, onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    source: Path | None,
) -> onnx.ModelProto:
    part = onnx.ModelProto()
    copy_fields(model, part, leave_out=("graph", "training_info"))
    part.graph.name = model.graph.name
    write_metadata(part, FileMetadata())  # what the file says of itself is not true of a half
    # A Constant that holds a weight has it in the model only.
    constants = {n.output[0]: n for n in model.graph.node if n.op_type == "Constant"}
    for _, node in sorted(nodes.items()):
        part.graph.node.append(constants.get(node.output[0], node) if node.output else node)
    needed = {name for node in part.graph.node for name in reads(node)}
    part.graph.input.extend(
        value for value in inputs if value.name in needed or value.name not in _initializers(model)
    )
    part.graph.output.extend(outputs)
    for tensor in model.graph.initializer:
        if tensor.name in needed:
            _copy_in(tensor, part.graph.initializer.add(), source)
    part.graph.sparse_initializer.extend(
        sparse for sparse in model.graph.sparse_initializer if sparse.values.name in needed
    )
    return part


def keep_outputs(model: Model, outputs: Sequence[str | onnx.ValueInfoProto]) -> onnx.ModelProto:
    """Copy a model with some outputs alone, and no node that only the others need.

    Args:
        model: Not modified; weights that are elsewhere stay there.
        outputs: Names of its outputs, or declarations of tensors that become outputs.
    """
    graph = Graph.of(model)
    model, copy = graph.model, onnx.ModelProto()
    copy_fields(model, copy, leave_out=("graph",))
    copy_fields(model.graph, copy.graph, leave_out=("node", "output", "initializer"))
    declared = {value.name: value for value in model.graph.output}
    kept = [declared[one] if isinstance(one, str) else one for one in outputs]
    nodes = [graph.node(index) for index in sorted(graph.upstream(*(one.name for one in kept)))]
    needed = {name for node in nodes for name in reads(node)} | {one.name for one in kept}
    copy.graph.node.extend(nodes)
    copy.graph.output.extend(kept)
    copy.graph.initializer.extend(t for t in model.graph.initializer if t.name in needed)
    dropped = _initializers(model) - needed
    for index in reversed(range(len(copy.graph.input))):  # IR 3 lists initializers twice
        if copy.graph.input[index].name in dropped:
            del copy.graph.input[index]
    return copy


def _copy_in(tensor: onnx.TensorProto, target: onnx.TensorProto, source: Path | None) -> None:
    target.CopyFrom(tensor)
    if source is not None and not is_loaded(tensor):
        load_tensor(target, source.parent)


def _initializers(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


def _boundary(
    model: onnx.ModelProto, tensor: str, known: onnx.ValueInfoProto | None
) -> onnx.ValueInfoProto:
    """Describe the boundary: the model's own element type and rank, every axis free."""
    if known is None:
        element = model.graph.input[0].type.tensor_type.elem_type
        return onnx.helper.make_tensor_value_info(tensor, element, None)
    tensor_type = known.type.tensor_type
    axes = None
    if tensor_type.HasField("shape"):
        rank = len(tensor_type.shape.dim)
        names = ("batch", "channels", "map_height", "map_width")
        axes = list(names[:rank]) if rank <= len(names) else [f"axis_{i}" for i in range(rank)]
    return onnx.helper.make_tensor_value_info(tensor, tensor_type.elem_type, axes)
