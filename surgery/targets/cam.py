"""Target cam: global average pooling → Linear becomes 1×1 convolution → global average pooling.

Averaging over the cells and a linear layer commute: Linear(GAP(x)) = GAP(Conv1×1(x)), exactly, the
bias included. The maps before the average are the class activation maps (Zhou, Khosla, Lapedriza,
Oliva, Torralba, "Learning Deep Features for Discriminative Localization", CVPR 2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx

from anysize.errors import DeclinedError, UsageError
from anysize.sizes import Size
from anysize.surgery.graph import Edits, Graph, Model, NameMaker, attribute
from anysize.surgery.heads import Layout, Linear, declined
from anysize.surgery.heads.readers import TAILS, ReadContext, read_layer
from anysize.surgery.metadata import read_metadata
from anysize.surgery.passes import (
    free_baked_shapes,
    local_pool_to_global,
    reduce_mean_to_global_pool,
)
from anysize.surgery.shapes import IllegalSizeError, infer_shapes, legal_sizes, trained_size
from anysize.surgery.targets.attempts import can_be_written
from anysize.surgery.targets.fc_to_conv import MAP_OUTPUT
from anysize.surgery.targets.fcn import to_fcn
from anysize.surgery.targets.kept_layers import guarded
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten
from anysize.surgery.targets.weight_forms import WeightForms

__all__ = ["PooledHead", "find_pooled_head", "to_cam"]

# What may stand between the pooling and the linear layer, or behind it, without changing a number.
_TRANSPARENT = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_CELL_RANK = 4
# With a number as the other factor they commute with the average.
_SCALING = frozenset({"Div", "Mul"})
# Where neither file nor user says for what size a graph without a fixed one was trained.
_USUAL_SIZES = (Size(224, 224), Size(64, 64), Size(32, 32), Size(299, 299))


@dataclass(frozen=True, slots=True)
class PooledHead:
    """A global average that makes a graph's scores, as it stands or through a linear layer.

    Attributes:
        feature_map: The tensor `(batch, channels, height, width)` that is averaged.
        pooling: The node that averages it.
        scaling: Nodes between the average and the layer that multiply by a number, the last first.
        linear: The layer; None where the average of each channel is a score (Network in Network).
        scores: The tensor `(batch, classes)`, before a Softmax where there is one.
        output: The graph output that it makes.
    """

    feature_map: str
    pooling: int
    scaling: tuple[int, ...]
    linear: Linear | None
    scores: str
    output: str


def find_pooled_head(model: Model, size: Size | None = None) -> PooledHead:
    """Find the one global average that makes the graph's classifier output.

    Args:
        model: Not modified; its weights are not read.
        size: A size that it takes; what the file declares or records, by default.

    Raises:
        DeclinedError: There is none, or something between does not commute with the average; the
            message names the node.
    """
    graph = Graph.of(model).light()
    # Every spelling of the mean gets one form.
    reduce_mean_to_global_pool(graph, size or trained_size(graph) or _usual_size(graph))
    return _find(graph)


def _find(graph: Graph) -> PooledHead:
    outputs = [output.name for output in graph.model.graph.output]
    if len(outputs) != 1:
        names = ", ".join(map(repr, outputs))
        raise DeclinedError(
            f"the graph has the outputs {names}, and a class map is made of one; give --to gap or "
            "dynamic, which keep them"
        )
    scores, linear = _find_scores(graph, outputs[0])
    tensor, scaling = (linear.data if linear else scores), list[int]()
    while True:
        index = graph.producer(tensor)
        if index is None:
            label = linear.label if linear else f"output {outputs[0]!r}"
            raise DeclinedError(f"{label}: reads {tensor!r}, expected a global average")
        node = graph.node(index)
        if node.op_type == "GlobalAveragePool":
            made = (linear, scores, outputs[0])
            return PooledHead(node.input[0], index, tuple(scaling), *made)
        if _is_scaling(graph, index):
            scaling.append(index)
        elif node.op_type not in _TRANSPARENT and not _moves_channels(node):
            raise _without_average(graph, index, linear)
        tensor = node.input[0]


def _moves_channels(node: onnx.NodeProto) -> bool:
    """Say whether a node puts the channels of an average last, or first, and the batch nowhere."""
    perm = attribute(node, "perm")
    return node.op_type == "Transpose" and perm in (_TO_LAST, _TO_FIRST)


def _is_scaling(graph: Graph, index: int) -> bool:
    """Say whether a node multiplies its first input by one constant number."""
    node = graph.node(index)
    if node.op_type not in _SCALING:
        return False
    factor = graph.constant(node.input[1])
    return factor is not None and math.prod(factor.dims) == 1


def _without_average(graph: Graph, index: int, linear: Linear | None) -> DeclinedError:
    """Say what stands where the global average should, and what else would help."""
    node = graph.node(index)
    if linear is None:
        return declined(
            graph,
            index,
            f"{node.op_type} makes the output, expected a linear layer on a global average",
        )
    kinds = {graph.node(before).op_type for before in graph.upstream(linear.data)}
    if not kinds & {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}:
        return declined(
            graph,
            linear.nodes[0],
            "is a fully connected layer on a flattened map, expected one on a global average",
        )
    return declined(
        graph,
        index,
        f"{node.op_type} between the global average and the linear layer does not commute with "
        "averaging, so there is no exact class map",
    )


def _find_scores(graph: Graph, output: str) -> tuple[str, Linear | None]:
    """Find the scores that an output is read from, and the linear layer that makes them."""
    tensor = scores = output
    while True:
        index = graph.producer(tensor)
        if index is None:
            raise DeclinedError(f"output {output!r}: no linear layer makes it")
        node = graph.node(index)
        if node.op_type in ("Add", "Gemm", "MatMul"):
            linear = _linear_at(graph, index)
            if linear is not None and linear.output == tensor:
                return scores, linear
        if node.op_type in TAILS and scores == output:
            scores = node.input[0]
        elif node.op_type not in _TRANSPARENT:
            return scores, None
        tensor = node.input[0]


def _linear_at(graph: Graph, index: int) -> Linear | None:
    """Read a linear layer on rows of features; an Add may be the bias of the MatMul before it."""
    node = graph.node(index)
    if node.op_type == "Add":
        makers = (graph.producer(name) for name in node.input)
        products = [i for i in makers if i is not None and graph.node(i).op_type == "MatMul"]
        return _linear_at(graph, products[0]) if products else None
    rows = Layout(("N", "C"))
    layer = read_layer(ReadContext(graph, dict.fromkeys(filter(None, node.input), rows)), index)
    return layer if isinstance(layer, Linear) else None


def to_cam(graph: Graph, size: Size | None, output: Output) -> Rewritten | NotNeeded:
    """Rewrite a global average pooling head to one that hands out its class map.

    The graph's own output stays first, under its name and with its Softmax where it has one; the
    output `map`, `(batch, classes, map_height, map_width)`, is added whatever `output` says, since
    that is what the head is for.

    Args:
        graph: Edited in place: the means in it are given one spelling, and windows over the whole
            map made global.
        size: The training size; what the file declares or records, by default. Where nothing says
            it, it does not matter: such a graph takes any.
        output: Must be `map` (the default of a rewrite) or `both`.

    Raises:
        DeclinedError: The head does not commute with averaging; the message names the node.
        UsageError: Logits alone were asked for: the graph has them already.
    """
    if output == "logits":
        raise UsageError("rewrite to cam: the logits are the graph's own; expected --output both")
    if read_metadata(graph).head == "cam":
        return NotNeeded("the file records head cam already")
    known = size or trained_size(graph)
    trained = known or _usual_size(graph)
    reduce_mean_to_global_pool(graph, trained)
    local_pool_to_global(graph, trained)
    free_baked_shapes(graph, trained)
    try:
        head = _find(graph)
    except DeclinedError as exc:
        if not can_be_written(to_fcn, graph, size):
            raise
        raise DeclinedError(f"{exc}; --to fcn gives a map", node=exc.node) from exc
    sizes = legal_sizes(graph, trained)
    classes = _classes(graph, head, trained)
    rank = len(infer_shapes(graph, trained).get(head.linear.output, ())) if head.linear else 0
    edits, dense = _plan_edits(graph, head, classes, is_cell=rank == _CELL_RANK)
    edits.apply(graph)
    sizes = guarded(graph, sizes)
    return Rewritten(
        size=trained, sizes=sizes, classes=classes, map_tensor=dense, is_size_assumed=known is None
    )


def _usual_size(graph: Graph) -> Size:
    """Return a size that a graph takes which pools globally, for it does not matter which."""
    for size in _USUAL_SIZES:
        try:
            infer_shapes(graph, size)
        except IllegalSizeError:
            continue
        return size
    raise DeclinedError("the training size is not known; give --size to say it")


def _classes(graph: Graph, head: PooledHead, size: Size) -> int:
    if head.linear is not None:
        return head.linear.out_features
    return infer_shapes(graph, size)[head.feature_map][1]


def _plan_edits(
    graph: Graph, head: PooledHead, classes: int, *, is_cell: bool
) -> tuple[Edits, str]:
    """Move the linear layer before the pooling; returns the edits and the map's name.

    Args:
        graph: Not modified.
        head: The head.
        classes: Number of classes.
        is_cell: Whether the layer makes `(batch, 1, 1, classes)`, and not `(batch, classes)`.
    """
    edits, names = Edits(), NameMaker(graph.model)
    dense = names(MAP_OUTPUT)
    nodes, feature_map = [], head.feature_map
    for index in reversed(head.scaling):  # on the map, for each cell of it as for their mean
        scale = onnx.NodeProto()
        scale.CopyFrom(graph.node(index))
        scale.name = f"{scale.name}_map" if scale.name else ""
        scale.input[0], scale.output[0] = feature_map, names(f"{scale.output[0]}_map")
        nodes.append(scale)
        feature_map = scale.output[0]
    if head.linear is None:
        nodes.append(onnx.helper.make_node("Identity", [feature_map], [dense], name=dense))
        edits.nodes[head.pooling] = [graph.node(head.pooling), *nodes]
    else:
        nodes += WeightForms(graph, edits, names).convolution(head.linear, feature_map, dense)
        edits.nodes[head.linear.nodes[-1]] = [
            *nodes,
            *_mean(graph, head.linear, dense, names, is_cell=is_cell),
        ]
    original = next(o for o in graph.model.graph.output if o.name == head.output)
    edits.new_outputs.append(
        onnx.helper.make_tensor_value_info(
            dense,
            original.type.tensor_type.elem_type,
            ("batch", classes, "map_height", "map_width"),
        )
    )
    return edits, dense


def _mean(
    graph: Graph, linear: Linear, dense: str, names: NameMaker, *, is_cell: bool
) -> list[onnx.NodeProto]:
    """Average the map to what the layer made."""
    pooled, label = names(f"{linear.output}_mean"), graph.node(linear.nodes[0]).name
    label = label or linear.output
    kind = "Transpose" if is_cell else "Flatten"
    attributes = {"perm": _TO_LAST} if is_cell else {"axis": 1}
    last = f"{label}_{kind.lower()}"
    return [
        onnx.helper.make_node("GlobalAveragePool", [dense], [pooled], name=f"{label}_mean"),
        onnx.helper.make_node(kind, [pooled], [linear.output], name=last, **attributes),
    ]
