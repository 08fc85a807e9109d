"""Target cam: global average pooling → Linear becomes 1×1 convolution → global average pooling.

Averaging over the cells and a linear layer commute: Linear(GAP(x)) = GAP(Conv1×1(x)), exactly, the
bias included. The maps before the average are the class activation maps (Zhou, Khosla, Lapedriza,
Oliva, Torralba, "Learning Deep Features for Discriminative Localization", CVPR 2016).
"""

from __future__ import annotations

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
from anysize.surgery.shapes import legal_sizes, trained_size
from anysize.surgery.targets.fc_to_conv import MAP_OUTPUT
from anysize.surgery.targets.kept_layers import guarded
from anysize.surgery.targets.plan import NotNeeded, Output, Rewritten
from anysize.surgery.targets.weight_forms import WeightForms

__all__ = ["PooledHead", "find_pooled_head", "to_cam"]

# What may stand between the pooling and the linear layer, or behind it, without changing a number.
_TRANSPARENT = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze"})


@dataclass(frozen=True, slots=True)
class PooledHead:
    """A linear layer on a globally averaged map.

    Attributes:
        feature_map: The tensor `(batch, channels, height, width)` that is averaged.
        pooling: The node that averages it.
        linear: The layer.
        output: The graph output that it makes.
    """

    feature_map: str
    pooling: int
    linear: Linear
    output: str


def find_pooled_head(model: Model) -> PooledHead:
    """Find the one global average → Linear that makes the graph's classifier output.

    Args:
        model: Not modified; its weights are not read.

    Raises:
        DeclinedError: There is none, or something between does not commute with the average; the
            message names the node.
    """
    graph = Graph.of(model).light()
    reduce_mean_to_global_pool(graph)  # every spelling of the mean gets this form
    return _find(graph)


def _find(graph: Graph) -> PooledHead:
    outputs = graph.model.graph.output
    if len(outputs) != 1:
        names = ", ".join(repr(output.name) for output in outputs)
        raise DeclinedError(f"the graph has the outputs {names}, expected one for --to cam")
    linear = _find_linear(graph, outputs[0].name)
    tensor = linear.data
    while True:
        index = graph.producer(tensor)
        node = None if index is None else graph.node(index)
        if index is None or node is None:
            raise DeclinedError(f"{linear.label}: reads {tensor!r}, expected a global average")
        if len(graph.consumers(tensor)) != 1 or graph.is_graph_output(tensor):
            raise declined(graph, index, f"{tensor!r} is read by more than the classifier")
        if node.op_type == "GlobalAveragePool":
            return PooledHead(node.input[0], index, linear, outputs[0].name)
        if node.op_type not in _TRANSPARENT and not _moves_channels(node):
            raise _without_average(graph, index, linear)
        tensor = node.input[0]


def _moves_channels(node: onnx.NodeProto) -> bool:
    """Say whether a node puts the channels of an average last, or first, and the batch nowhere."""
    perm = attribute(node, "perm")
    return node.op_type == "Transpose" and perm in ([0, 2, 3, 1], [0, 3, 1, 2])


def _without_average(graph: Graph, index: int, linear: Linear) -> DeclinedError:
    """Say what stands where the global average should, and what else would help."""
    node = graph.node(index)
    kinds = {graph.node(before).op_type for before in graph.upstream(linear.data)}
    if not kinds & {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}:
        return declined(
            graph,
            linear.nodes[0],
            "is a fully connected layer on a flattened map, expected one on a global average; "
            "--to fcn gives a map",
        )
    return declined(
        graph,
        index,
        f"{node.op_type} between the global average and the linear layer does not commute with "
        "averaging, so there is no exact class map",
    )


def _find_linear(graph: Graph, output: str) -> Linear:
    tensor = output
    while True:
        index = graph.producer(tensor)
        if index is None:
            raise DeclinedError(f"output {output!r}: no linear layer makes it")
        node = graph.node(index)
        if node.op_type in ("Add", "Gemm", "MatMul"):
            linear = _linear_at(graph, index)
            if linear is not None and linear.output == tensor:
                return linear
        if node.op_type not in _TRANSPARENT | TAILS or (node.op_type in TAILS and tensor != output):
            raise declined(
                graph,
                index,
                f"{node.op_type} makes the output, expected a linear layer on a global average",
            )
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
        size: The training size; what the file declares or records, by default.
        output: Must be `map` (the default of a rewrite) or `both`.

    Raises:
        DeclinedError: The head does not commute with averaging; the message names the node.
        UsageError: Logits alone were asked for: the graph has them already.
    """
    if output == "logits":
        raise UsageError("rewrite to cam: the logits are the graph's own; expected --output both")
    if read_metadata(graph).head == "cam":
        return NotNeeded("the file records head cam already")
    trained = size or trained_size(graph)
    if trained is None:
        raise DeclinedError("the training size is not known; give --size to say it")
    reduce_mean_to_global_pool(graph)
    local_pool_to_global(graph, trained)
    free_baked_shapes(graph, trained)
    head = _find(graph)
    sizes = legal_sizes(graph, trained)
    edits, dense = _plan_edits(graph, head)
    edits.apply(graph)
    sizes = guarded(graph, sizes)
    return Rewritten(
        size=trained,
        sizes=sizes,
        classes=head.linear.out_features,
        map_tensor=dense,
    )


def _plan_edits(graph: Graph, head: PooledHead) -> tuple[Edits, str]:
    """Move the linear layer before the pooling; returns the edits and the map's name."""
    edits, linear, names = Edits(), head.linear, NameMaker(graph.model)
    dense, pooled = names(MAP_OUTPUT), names(f"{linear.output}_mean")
    nodes = WeightForms(graph, edits, names).convolution(linear, head.feature_map, dense)
    label = graph.node(linear.nodes[0]).name or linear.output
    edits.nodes[linear.nodes[-1]] = [
        *nodes,
        onnx.helper.make_node("GlobalAveragePool", [dense], [pooled], name=f"{label}_mean"),
        onnx.helper.make_node(
            "Flatten", [pooled], [linear.output], name=f"{label}_flatten", axis=1
        ),
    ]
    original = next(o for o in graph.model.graph.output if o.name == head.output)
    edits.new_outputs.append(
        onnx.helper.make_tensor_value_info(
            dense,
            original.type.tensor_type.elem_type,
            ("batch", linear.out_features, "map_height", "map_width"),
        )
    )
    return edits, dense
