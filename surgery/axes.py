"""Freeing the axes of a graph: batch, height and width become symbols."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import onnx

from anysize.surgery.graph import Graph, Model, image_input, image_layout
from anysize.surgery.metadata import read_metadata

__all__ = ["fixed_axes", "free_axes"]


def free_axes(
    model: Model,
    *,
    batch: bool = True,
    height: bool = True,
    width: bool = True,
    others: Mapping[str, Mapping[int, str]] | None = None,
    fixed: Collection[str] = (),
    outputs: bool = True,
) -> onnx.ModelProto:
    """Name the free axes of the image input and of the outputs, and drop stale inner shapes.

    The input becomes `(batch, channels, height, width)`, or its channels stay last. Axis
    0 of every output becomes `batch`; an output of rank 4 ends in `map_height`, `map_width`. Only
    declarations change: whether the nodes between can take other sizes is for the caller to prove.

    Args:
        model: Edited in place.
        batch: Free axis 0.
        height: Free axis 2, or where the rows of the input lie.
        width: Free axis 3, or where the columns of the input lie.
        others: Axes of other inputs to name, by input and place, and of outputs whose axes are
            not called as above.
        fixed: Outputs of which no axis is named but those in `others`.
        outputs: Name the axes of the outputs; they stay as they are declared otherwise.

    Returns:
        `model` itself.

    Raises:
        UnsupportedModelError: The graph has no image input.
    """
    graph = Graph.of(model)
    model = graph.model
    source, layout = image_input(model), image_layout(graph)
    _name(source, {layout.batch: "batch"} if batch else {})
    _name(source, {layout.height: "height"} if height else {})
    _name(source, {layout.width: "width"} if width else {})
    for output in model.graph.output if outputs else ():
        rank = len(output.type.tensor_type.shape.dim)
        if output.name in fixed:
            continue
        if rank and batch:
            _name(output, {0: "batch"})
        if rank == 4:
            _name(output, {2: "map_height"} if height else {})
            _name(output, {3: "map_width"} if width else {})
    named = others or {}
    for value in (*model.graph.input, *model.graph.output):
        _name(value, named.get(value.name, {}))
    if batch or height or width or named:
        _drop_stale_shapes(graph, named)
    graph.changed()
    return model


def fixed_axes(model: Model) -> tuple[str, ...]:
    """Name the axes of the image that a file declares with a number: batch, height, width.

    A side that it records as the only one that its layers take is no matter of the declaration.
    """
    graph = Graph.of(model)
    dims = image_input(graph.model).type.tensor_type.shape.dim
    layout = image_layout(graph)
    axes = {layout.batch: "batch", layout.height: "height", layout.width: "width"}
    sizes = read_metadata(graph).sizes
    by_layers = sizes.fixed_sides if sizes is not None else ()
    return tuple(
        name for axis, name in axes.items() if dims[axis].dim_value > 0 and name not in by_layers
    )


def _drop_stale_shapes(graph: Graph, others: Iterable[str]) -> None:
    """Remove the recorded shapes of tensors computed from the image; scalars keep theirs."""
    stale = {
        name
        for source in (image_input(graph.model).name, *others)
        for index in graph.downstream(source)
        for name in graph.node(index).output
    }
    recorded = graph.model.graph.value_info
    for index in reversed(range(len(recorded))):
        tensor_type = recorded[index].type.tensor_type
        is_scalar = tensor_type.HasField("shape") and not tensor_type.shape.dim
        if recorded[index].name in stale and not is_scalar:
            del recorded[index]


def _name(value: onnx.ValueInfoProto, names: Mapping[int, str]) -> None:
    dims = value.type.tensor_type.shape.dim
    for axis, name in names.items():
        dims[axis].ClearField("dim_value")
        dims[axis].dim_param = name
