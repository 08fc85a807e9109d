"""A copy of a model without its weights, on which edits are tried and graphs are checked."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from google.protobuf.message import Message

from anysize.errors import ModelFileError
from anysize.surgery.storage.tensors import DATA_FIELDS, is_small
from anysize.words import one_line

__all__ = ["check", "copy_fields", "inferred_values", "weight_free"]


def copy_fields(source: Message, target: Message, *, leave_out: Collection[str] = ()) -> None:
    """Copy every field of a protobuf message that is set, except those named."""
    for field, value in source.ListFields():
        if field.name in leave_out:
            continue
        if field.is_repeated:
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def weight_free(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model, keeping of each large tensor only its name, type and dims.

    Small inline tensors (shapes, axes, bounds) keep their values. The copy cannot be run.
    """
    copy = onnx.ModelProto()
    copy_fields(model, copy, leave_out=("graph",))
    copy_fields(model.graph, copy.graph, leave_out=("initializer", "node"))
    for tensor in model.graph.initializer:
        _copy_tensor(tensor, copy.graph.initializer.add())
    for node in model.graph.node:
        _copy_node(node, copy.graph.node.add())
    return copy


def _copy_tensor(source: onnx.TensorProto, target: onnx.TensorProto) -> None:
    if is_small(source):
        target.CopyFrom(source)
        return
    copy_fields(source, target, leave_out=(*DATA_FIELDS, "external_data"))
    target.data_location = onnx.TensorProto.EXTERNAL  # so that nobody takes it for an empty one


def _copy_node(source: onnx.NodeProto, target: onnx.NodeProto) -> None:
    copy_fields(source, target, leave_out=("attribute",))
    for attribute in source.attribute:
        copy = target.attribute.add()
        if attribute.HasField("t"):
            copy_fields(attribute, copy, leave_out=("t",))
            _copy_tensor(attribute.t, copy.t)
        else:
            copy.CopyFrom(attribute)


def check(model: onnx.ModelProto) -> None:
    """Run `onnx.checker` with full shape inference on a weight-free copy of the model.

    Raises:
        ModelFileError: The model breaks a rule of ONNX; the checker's words are kept.
    """
    skeleton = weight_free(model)
    _weights_to_inputs(skeleton)
    try:
        onnx.checker.check_model(skeleton, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise ModelFileError(f"not a valid ONNX graph: {one_line(exc)}") from exc
    except (ValueError, RuntimeError, UnicodeError) as exc:
        raise ModelFileError(f"not a valid ONNX graph: {one_line(exc)}") from exc


def inferred_values(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Return what onnx's own inference says of every tensor: type, rank, and sides as far as known.

    Where inference fails, only what the file declares itself.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(weight_free(model), data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = model
    graph = inferred.graph
    return {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}


def _weights_to_inputs(skeleton: onnx.ModelProto) -> None:
    """Make every tensor that lost its bytes a graph input, which needs none."""
    graph = skeleton.graph
    inputs = {value.name for value in graph.input}
    stripped = [tensor for tensor in graph.initializer if not is_small(tensor)]
    kept = [tensor for tensor in graph.initializer if is_small(tensor)]
    constants: list[onnx.NodeProto] = []
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        is_stripped = node.op_type == "Constant" and any(
            a.HasField("t") and not is_small(a.t) for a in node.attribute
        )
        (constants if is_stripped else nodes).append(node)
    typed = [(tensor.name, tensor) for tensor in stripped]
    typed += [(node.output[0], node.attribute[0].t) for node in constants if node.output]
    for name, tensor in typed:
        if name not in inputs:
            inputs.add(name)
            graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            )
    if stripped:
        del graph.initializer[:]
        graph.initializer.extend(kept)
    if constants:
        del graph.node[:]
        graph.node.extend(nodes)
