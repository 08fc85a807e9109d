"""Take out of a traced graph what only the tracer needs."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

__all__ = ["strip_trace"]


def strip_trace(model: ir.Model) -> None:
    """Remove, in place, source lines, paths and module names of the tracer, and spelt-out defaults.

    A traced graph carries the user's source code lines and file paths in `metadata_props`; a file
    that ships must not.
    """
    ClearMetadataAndDocStringPass()(model)
    graph = model.graph
    made = (value for node in graph for value in node.outputs)
    for value in (*graph.inputs, *graph.initializers.values(), *made):  # which the pass passes over
        value.metadata_props.clear()
        value.doc_string = None
    for node in graph:
        if not node.domain:
            _drop_default_attributes(node, graph.opset_imports[""])


def _drop_default_attributes(node: ir.Node, opset: int) -> None:
    """Remove attributes that repeat the operator's default: torch.onnx spells out every one.

    Defaults that float32 rounds, an epsilon of 1e-5, stay: MNN 3.6.1 takes 1e-6 for one left out.
    """
    known = onnx.defs.get_schema(node.op_type, opset).attributes
    for name, attribute in list(node.attributes.items()):
        proto = known[name].default_value if name in known else onnx.AttributeProto()
        if proto.name and ir.serde.deserialize_attribute(proto).value == attribute.value:
            del node.attributes[name]
