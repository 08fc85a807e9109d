"""Pooling with a window as large as the map → global pooling.

`F.avg_pool2d(x, x.shape[2:])` is global pooling by its author's intention, and is traced with the
window of the traced size. Only two traces tell it from a window that happens to fit.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from anysize.exporters.tracing import Trace

__all__ = ["pool_whole_maps"]

_GLOBAL = {"AveragePool": "GlobalAveragePool", "MaxPool": "GlobalMaxPool"}


def pool_whole_maps(model: onnx.ModelProto, first: Trace, second: Trace) -> None:
    """Rewrite, in place, pooling whose window is the whole map in both of two traces.

    Args:
        model: Made from `first`; its node names are still the trace's.
        first: One trace.
        second: Another one, with the same operators, at another size.
    """
    whole = {
        node.outputs[0].name
        for node, twin in zip(first.model.graph, second.model.graph, strict=True)
        if node.op_type in _GLOBAL
        and _window(node) != _window(twin)
        and _is_whole(node)
        and _is_whole(twin)
    }
    for node in model.graph.node:
        if node.output[0] in whole:
            node.op_type = _GLOBAL[node.op_type]
            del node.attribute[:]


def _window(node: ir.Node) -> list[int]:
    return list(node.attributes["kernel_shape"].as_ints())


def _is_whole(node: ir.Node) -> bool:
    source = node.inputs[0]
    sides = list(source.shape or ())[2:] if source is not None else []
    padding = node.attributes.get("pads")
    return _window(node) == sides and not (padding and any(padding.as_ints()))
