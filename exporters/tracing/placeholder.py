"""Operators of our own in a trace, which keep whole what torch.onnx would hard-code or split."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir
import onnxscript

__all__ = ["DOMAIN", "WHOLE", "is_placeholder", "placeholder"]

# No file ever contains it.
DOMAIN = "anysize.lowering"
# An attribute of a standard operator that is not to be computed yet: a number, so that two that are
# equal at one size, and are not at others, stay two.
WHOLE = "anysize_whole"

_FLOATS = ["tensor(float16)", "tensor(bfloat16)", "tensor(float)", "tensor(double)"]


def placeholder(
    name: str,
    attributes: Mapping[str, str],
    *,
    parameters: tuple[str, ...] = (),
    lengths: tuple[str, ...] = (),
) -> onnxscript.values.Op:
    """Make an operator from floats to floats, for a translation table of torch.onnx.

    Args:
        name: The operator's, in `DOMAIN`.
        attributes: Name → type as onnx calls it, `INTS` or `FLOAT`; all are required.
        parameters: Inputs behind the first one, which may be absent.
        lengths: Numbers of cells behind these, int64, which may be absent.
    """
    schema = onnx.defs.OpSchema
    optional = schema.FormalParameterOption.Optional
    behind = [
        schema.FormalParameter(word, kind, param_option=optional)
        for words, kind in ((parameters, "T"), (lengths, "L"))
        for word in words
    ]
    types = [("T", _FLOATS, "any float"), ("L", ["tensor(int64)"], "a number of cells")]
    return onnxscript.values.Op(
        onnxscript.values.Opset(DOMAIN, 1),
        name,
        schema(
            name,
            DOMAIN,
            1,
            inputs=[schema.FormalParameter("input", "T"), *behind],
            outputs=[schema.FormalParameter("output", "T")],
            type_constraints=types if lengths else types[:1],
            attributes=[
                schema.Attribute(word, getattr(schema.AttrType, kind), "", required=True)
                for word, kind in attributes.items()
            ],
        ),
    )


def is_placeholder(node: ir.Node, name: str) -> bool:
    """Say whether a traced node is the placeholder of that name."""
    return (node.domain, node.op_type) == (DOMAIN, name)
