"""The scores that labels and probabilities are read from.

A label is a whole number, and the probabilities of a trained network are 0 and 1 to many digits:
noise often gets the same ones always, and agreement on them shows nothing. The scores before them
vary with every image, so a proof that the outputs cannot give is given by the scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from anysize.surgery.graph import Graph, Model

__all__ = ["answers_labels", "reads_scores", "with_scores"]

_LABELS = frozenset({"ArgMax", "TopK"})
_PROBABILITIES = frozenset({"LogSoftmax", "Sigmoid", "Softmax"})
_BEHIND = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze"})
# Before, a Softmax flattens from its axis on, and a rewrite has to put transpositions around it.
_SOFTMAX_ALONG_AXIS_OPSET = 13
_LOGITS_RANK = 2


def answers_labels(model: onnx.ModelProto) -> bool:
    """Say whether an output holds whole numbers."""
    import onnx

    whole = {onnx.TensorProto.INT32, onnx.TensorProto.INT64}
    return any(output.type.tensor_type.elem_type in whole for output in model.graph.output)


def reads_scores(model: Model) -> bool:
    """Say whether an output is read from scores, as a label or a probability."""
    from anysize.surgery.graph import Graph

    graph = Graph.of(model)
    return any(_scores(graph, output.name) for output in graph.model.graph.output)


def with_scores(model: Model, *, is_map: bool) -> onnx.ModelProto:
    """Copy a graph, with the scores in the place of the outputs that are read from them.

    Args:
        model: Not modified; weights may still be in their file.
        is_map: Whether the scores are maps `(batch, classes, map_height, map_width)`; they are
            `(batch, classes)` otherwise.

    Returns:
        The copy; outputs that are scores themselves stay as they are.
    """
    import onnx

    from anysize.surgery import keep_outputs
    from anysize.surgery.graph import Graph

    graph = Graph.of(model)
    outputs: dict[str, onnx.ValueInfoProto] = {}
    for output in graph.model.graph.output:
        scores = _scores(graph, output.name)
        value = output
        if scores:
            rank = len(output.type.tensor_type.shape.dim)
            sides = ("map_height", "map_width") if is_map and rank > _LOGITS_RANK else ()
            value = onnx.helper.make_tensor_value_info(
                scores, onnx.TensorProto.FLOAT, ("batch", "classes", *sides)
            )
        outputs.setdefault(value.name, value)
    return keep_outputs(graph, list(outputs.values()))


def _scores(graph: Graph, output: str) -> str:
    """Name what an output is read from; "" for one that is scores itself."""
    from anysize.surgery.graph import opset_version

    is_along_axis = opset_version(graph.model) >= _SOFTMAX_ALONG_AXIS_OPSET
    readers = _LABELS | _PROBABILITIES if is_along_axis else _LABELS
    tensor, scores = output, ""
    while (index := graph.producer(tensor)) is not None:
        node = graph.node(index)
        if node.op_type not in readers | _BEHIND:
            break
        tensor = node.input[0]
        if node.op_type in readers:
            scores = tensor
    return scores
