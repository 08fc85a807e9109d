"""A graph in float32 whose rounding falls otherwise in each run.

Behind each node that rounds stand two others: one draws a factor for every element, at most one
float32 step from 1, and one multiplies with it. As with modules (`eager.perturbing`), two right
runtimes differ like that. What a QuantizeLinear rounds may go either way near the middle of two
steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import onnx

from anysize.validators.references.graph.quantised import either_way

if TYPE_CHECKING:
    from anysize.surgery.graph import Graph

__all__ = ["perturbed"]

_FLOAT: Final = onnx.TensorProto.FLOAT
_STEP: Final = 2.0**-23
# They hand numbers on as they are, make them of none, or whole ones.
_EXACT: Final = frozenset(
    {
        "Abs", "ArgMax", "Cast", "Ceil", "Clip", "Compress", "Concat", "Constant",
        "ConstantOfShape", "DepthToSpace", "DequantizeLinear", "Dropout", "Expand", "Flatten",
        "Floor", "Gather", "GatherElements", "GatherND", "GlobalMaxPool", "Identity", "Max",
        "MaxPool", "MaxRoiPool", "Min", "Neg", "OneHot", "Pad", "QuantizeLinear", "Range",
        "ReduceMax", "ReduceMin", "Relu", "Reshape", "ReverseSequence", "Round", "ScatterElements",
        "ScatterND", "Sign", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK",
        "Transpose", "Trilu", "Unsqueeze", "Where",
    }
)  # fmt: skip


def perturbed(graph: Graph) -> onnx.ModelProto:
    """Copy a graph, with noise behind each node of its own that rounds to float32.

    Args:
        graph: Not modified; weights that are elsewhere stay there.
    """
    from anysize.surgery import keep_outputs
    from anysize.surgery.graph import inferred

    known = inferred(graph)
    model = keep_outputs(graph, [output.name for output in graph.model.graph.output])
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for place, node in enumerate(nodes):
        is_rounded = node.op_type == "QuantizeLinear" and _is_float(node.input[0], known)
        near = either_way(node) if is_rounded else _with_noise(node, known, seed=place)
        model.graph.node.extend(near)
    return model


def _with_noise(
    node: onnx.NodeProto, known: Mapping[str, onnx.ValueInfoProto], *, seed: int
) -> Iterator[onnx.NodeProto]:
    """Yield a node, whose results get other names, and what makes the old ones of them."""
    rounded = [] if node.op_type in _EXACT else [o for o in node.output if _is_float(o, known)]
    names = {name: f"{name}/anysize_exact" for name in rounded}
    for place, name in enumerate(node.output):
        node.output[place] = names.get(name, name)
    yield node
    for name, exact in names.items():
        factor = f"{name}/anysize_factor"
        noise = onnx.helper.make_node("RandomUniformLike", [exact], [factor])
        low, high = 1.0 - _STEP, 1.0 + _STEP
        for key, value in (("low", low), ("high", high), ("seed", float(seed))):
            noise.attribute.append(onnx.helper.make_attribute(key, value))
        yield noise
        yield onnx.helper.make_node("Mul", [exact, factor], [name])


def _is_float(name: str, known: Mapping[str, onnx.ValueInfoProto]) -> bool:
    return name in known and known[name].type.tensor_type.elem_type == _FLOAT
