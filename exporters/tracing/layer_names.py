"""Names that a reader of the file knows: the module's own.

torch.onnx calls nodes `node_conv2d_1` and tensors `val_12`. A node is named after the layer that
wrote it, `features.0`, after the layer and the operator where a layer needs several, `gelu/erf`,
or after the layer and the function where the layer is the user's own, `layer1.0/add`. Its output
has the same name, and a constant is called after its place in the node that reads it, `mean/axes`.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection
from itertools import count

import onnx
import onnx_ir as ir

__all__ = ["layer_name", "name_layers", "scopes"]


# What a layer is known by, even where a flatten or an activation was written into it.
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm"})


def scopes(node: ir.Node) -> list[tuple[str, str]]:
    """Return the modules that a traced node lies in, outermost first, as (name, class)."""
    names = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
    classes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.class_hierarchy", "[]"))
    return [
        (name, kind)
        for name, kind in zip(names, classes, strict=False)
        if "." in kind and not kind.startswith("aten.")
    ]


def name_layers(model: ir.Model, parameters: Collection[str]) -> None:
    """Rename, in place, nodes, tensors and constants of a traced graph.

    Graph inputs and outputs keep their names, and so do parameters.

    Args:
        model: The graph as torch.onnx left it, with its metadata.
        parameters: Names of the module's parameters and buffers.
    """
    graph = model.graph
    operators: dict[str, set[str]] = defaultdict(set)
    for node in graph:
        operators[layer_name(node)].add(node.op_type)
    fixed = [*graph.inputs, *graph.outputs]
    constants = [value for value in graph.initializers.values() if value.name not in parameters]
    taken = {value.name or "" for value in fixed} | set(parameters)
    nodes_taken: set[str] = set()
    # Numbers for now, so that no new name meets an old one.
    for number, value in enumerate(constants):
        value.name = f"anysize/constant/{number}"
    for number, node in enumerate(graph):
        for place, value in enumerate(node.outputs):
            if not value.is_graph_output():
                value.name = f"anysize/{number}/{place}"
    for node in graph:
        layer = layer_name(node)
        wanted = layer
        if not _is_torchs_own(node):
            wanted = "/".join(filter(None, (layer, _function(node))))
        elif len(operators[layer]) > 1 and node.op_type not in _LAYERS:
            wanted = f"{layer}/{node.op_type.lower()}"
        node.name = _free(wanted, nodes_taken)
        for place, value in enumerate(node.outputs):
            if not value.is_graph_output():
                part = f"{node.name}/{place}" if len(node.outputs) > 1 else node.name
                value.name = _free(part, taken)
    unnamed = set(constants)
    for node in graph:
        for place, read in enumerate(node.inputs):
            if read in unnamed:
                unnamed.discard(read)
                read.name = _free(f"{node.name}/{_input_name(node, place)}", taken)


def layer_name(node: ir.Node) -> str:
    """Return the name of the module that a traced node was written by; "" where none is known."""
    found = scopes(node)
    return found[-1][0] if found else ""


def _is_torchs_own(node: ir.Node) -> bool:
    found = scopes(node)
    return bool(found) and bool(found[-1][0]) and found[-1][1].startswith("torch.nn.modules.")


def _function(node: ir.Node) -> str:
    """Name what the user's own code called: `aten.max_pool2d.default` is `max_pool2d`."""
    classes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.class_hierarchy", "[]"))
    parts = str(classes[-1]).split(".") if classes else []
    return parts[1].strip("_") if len(parts) == 3 else node.op_type.lower()


def _input_name(node: ir.Node, place: int) -> str:
    if not node.domain and onnx.defs.has(node.op_type):
        inputs = onnx.defs.get_schema(node.op_type).inputs
        if inputs:
            return str(inputs[min(place, len(inputs) - 1)].name).lower()
    return f"input_{place}"


def _free(wanted: str, taken: set[str]) -> str:
    """Return `wanted`, numbered where it is taken, and take it."""
    name = next(name for number in count(1) if (name := _numbered(wanted, number)) not in taken)
    taken.add(name)
    return name


def _numbered(wanted: str, number: int) -> str:
    return wanted if number == 1 else f"{wanted}_{number}"
