"""Write a graph at exactly the opset that was asked for, or name the operator that prevents it.

The graph is traced where torch.onnx is at home, opset 18 or 20, and converted from there. A node
stays as it is where its operator is the same at both opsets, or changed in between by element
types and optional attributes only. Where its meaning or its form changed, one function of
`opset_downgrade` writes it anew. Anything else is refused: onnx's own version converter lets
operators through whose form it does not know.
"""

from __future__ import annotations

import onnx
from onnx import helper

from anysize.errors import ExportError, ModelFileError
from anysize.exporters.opset_range import DEFAULT_OPSET, check_opset
from anysize.exporters.writing.opset_downgrade import DOWNGRADES, Conversion
from anysize.surgery.graph import Edits, Graph, opset_version
from anysize.surgery.operators import Emitter
from anysize.surgery.storage import check, inferred_values

__all__ = ["convert_opset", "trace_opset"]

_VARIADIC = onnx.defs.OpSchema.FormalParameterOption.Variadic
# From here on Gelu is one operator.
_GELU_OPSET = 20

# Versions of operators that added element types, or attributes and inputs whose absence means
# what it meant before; from the operators' changelog.
_SAME_MEANING: dict[str, frozenset[int]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Relu", "CumSum"), frozenset({14})),
    "Pow": frozenset({15}),
    **dict.fromkeys(
        ("GreaterOrEqual", "LessOrEqual", "Where", "LeakyRelu", "PRelu"), frozenset({16})
    ),
    "Equal": frozenset({19}),
    **dict.fromkeys(("IsNaN", "ReduceMax", "ReduceMin"), frozenset({20})),
    **dict.fromkeys(
        (
            "Conv", "ConvTranspose", "Dropout", "Elu", "GlobalAveragePool", "GlobalLpPool",
            "GlobalMaxPool", "GridSample", "HardSigmoid", "HardSwish", "InstanceNormalization",
            "LpNormalization", "LpPool", "MaxPool", "MaxRoiPool", "Mish", "RoiAlign", "Round",
            "Selu", "Softplus", "Softsign", "ThresholdedRelu", "Acos", "Atan", "Cos", "Sin", "Tan",
        ),
        frozenset({22}),
    ),
    **dict.fromkeys(("Flatten", "Squeeze", "Transpose", "Unsqueeze"), frozenset({21, 23, 24})),
    "AveragePool": frozenset({19, 22}),  # 19: dilations
    "BatchNormalization": frozenset({14, 15}),  # in inference; 14: training_mode
    "Cast": frozenset({19, 21, 23, 24}),  # 19, 24: attributes for 8-bit floats
    "Constant": frozenset({19, 21, 23, 24}),
    "ConstantOfShape": frozenset({20, 21, 23, 24}),
    "Identity": frozenset({14, 16, 19, 21, 23, 24}),
    "Pad": frozenset({18, 19, 21, 23, 24}),  # 18: axes, 19: mode "wrap"
    "Reshape": frozenset({14, 19, 21, 23, 24}),  # 14: allowzero
    "Resize": frozenset({18, 19}),  # 18: axes, antialias; 19: another coordinate mode
    "ScatterND": frozenset({16, 18}),  # reduction
    "Shape": frozenset({15, 19, 21, 23, 24}),  # 15: start and end
    "Size": frozenset({19, 21, 23, 24}),
    "Split": frozenset({18}),  # num_outputs
    "TopK": frozenset({24}),
}  # fmt: skip


def trace_opset(opset: int) -> int:
    """Return the opset to trace at for a file of `opset`.

    Raises:
        UsageError: The opset is out of range.
    """
    check_opset(opset)
    return _GELU_OPSET if opset >= _GELU_OPSET else DEFAULT_OPSET


def convert_opset(model: onnx.ModelProto, opset: int) -> None:
    """Convert `model` to `opset`, in place, and set the oldest IR version that goes with it.

    Weights are not touched.

    Raises:
        ExportError: An operator cannot be written at that opset; operator and node are named.
    """
    current = opset_version(model)
    if opset != current:
        _convert_nodes(model, current, opset)
        for entry in model.opset_import:
            if entry.domain in ("", "ai.onnx"):
                entry.version = opset
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    if opset != current:
        try:
            check(model)
        except ModelFileError as error:
            raise ExportError(f"opset {opset}: {error}; give --opset {current}") from error


def _convert_nodes(model: onnx.ModelProto, current: int, opset: int) -> None:
    graph = model.graph
    values = inferred_values(model)
    edits = Edits()
    for index, node in enumerate(graph.node):
        downgrade = DOWNGRADES.get(node.op_type)
        if downgrade is not None and opset < downgrade.below:
            emitter = Emitter(model, node.name or node.output[0])
            reason = downgrade.write(Conversion(node, emitter, graph, values, opset))
            if reason:
                raise _refusal(node, opset, current, reason)
            edits.put(index, emitter.nodes, emitter.initializers)
            continue
        reason = _obstacle(node, current, opset)
        if reason:
            raise _refusal(node, opset, current, reason)
    edits.apply(Graph(model))


def _obstacle(node: onnx.NodeProto, current: int, opset: int) -> str:
    """Say why a node cannot stay as it is; "" where it can."""
    if node.domain not in ("", "ai.onnx"):
        return f"domain {node.domain!r} is not ONNX's own"
    if any(entry.HasField("g") or entry.graphs for entry in node.attribute):
        return "it has a subgraph"
    try:
        target = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        since = onnx.defs.get_schema(node.op_type, current).since_version
        return f"the operator exists from opset {since} on"
    versions = {
        onnx.defs.get_schema(node.op_type, between).since_version
        for between in range(min(current, opset), max(current, opset) + 1)
    }
    changes = versions - {min(versions)}
    unknown = changes - _SAME_MEANING.get(node.op_type, frozenset())
    if unknown:
        return f"its meaning changed at opset {max(unknown)}"
    last = [parameter.option for parameter in target.inputs[-1:]]
    if len(node.input) > len(target.inputs) and _VARIADIC not in last:
        return f"input {len(node.input)} is new since"
    for attribute in node.attribute:
        if attribute.name not in target.attributes:
            return f"attribute {attribute.name} is new since"
    return ""


def _refusal(node: onnx.NodeProto, opset: int, current: int, reason: str) -> ExportError:
    return ExportError(
        f"opset {opset}: {node.op_type} of layer {node.name!r} cannot be written: {reason}; "
        f"give --opset {current}"
    )
