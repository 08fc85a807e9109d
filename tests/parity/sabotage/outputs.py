"""Wrong outputs: order, number, shape, type, and batch items that are not their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto
from sabotage.entry import Sabotage, everywhere
from sabotage.graph import Graph
from sabotage.twins import MASK

from anysize.sizes import Size
from anysize.validators import Verdict

__all__ = ["OUTPUTS"]

Edit = Callable[[Graph], None]


def in_a_batch(size: Size, batch: int) -> bool:
    return batch > 1


def instead(output: str, build: Callable[[Graph, str], str]) -> Edit:
    return lambda graph: graph.splice(output, lambda tensor: build(graph, tensor))


def reshaped(output: str, rank: int, build: Callable[[Graph, str], str]) -> Edit:
    def spoil(graph: Graph) -> None:
        graph.declare(output, rank)
        instead(output, build)(graph)

    return spoil


def softmax_over_batch(graph: Graph) -> None:
    graph.set(graph.node("Softmax"), axis=0)


def without_softmax(graph: Graph) -> None:
    graph.turn(graph.node("Softmax"), "Identity")


def another_output(graph: Graph) -> None:
    graph.rename(graph.node("Relu").output[0], "extra")
    graph.declare("extra", 4)


def renamed(graph: Graph) -> None:
    graph.outputs("logits")
    graph.rename("map", "scores")
    graph.declare("scores", 4)


def retyped(output: str, rank: int, kind: int) -> Edit:
    def spoil(graph: Graph) -> None:
        instead(output, lambda g, tensor: g.add("Cast", tensor, to=kind))(graph)
        graph.declare(output, rank, kind)

    return spoil


def constant(graph: Graph, logits: str) -> str:
    zero = graph.add("Mul", logits, graph.constant(0.0))
    return graph.add("Add", zero, graph.constant(np.linspace(-0.3, 0.4, 10)))


def first_for_all(graph: Graph, logits: str) -> str:
    first = graph.add("Gather", logits, graph.integers(0), axis=0)
    return graph.add("Expand", first, graph.add("Shape", logits))


def reversed_batch(graph: Graph, logits: str) -> str:
    backwards = (-1, np.iinfo(np.int64).min, 0, -1)
    return graph.add("Slice", logits, *(graph.integers(number) for number in backwards))


def first_label(graph: Graph, label: str) -> str:
    zero = graph.add("Mul", label, graph.constant(0, np.int64))
    return graph.add("Add", zero, graph.constant(4, np.int64))


def only_the_mask(graph: Graph, scores: str) -> str:
    zero = graph.add("Mul", scores, graph.constant(0.0))
    return graph.add("Add", zero, graph.constant([0.0] * 5 + [MASK]))


def nine_classes(graph: Graph, logits: str) -> str:
    ends = graph.integers(0), graph.integers(9), graph.integers(1)
    return graph.add("Slice", logits, *ends)


def batch_mean(graph: Graph, logits: str) -> str:
    return graph.add("ReduceMean", logits, graph.integers(0), keepdims=1)


def mean_for_all(graph: Graph, logits: str) -> str:
    return graph.add("Expand", batch_mean(graph, logits), graph.add("Shape", logits))


def folded(graph: Graph) -> None:
    """Flatten by Reshape to [-1, K], straight behind the feature map."""
    gemm = graph.node("Gemm")
    flat = graph.node("Flatten")
    flat.op_type = "Reshape"
    flat.input[:] = [graph.node("MaxPool", -1).output[0], graph.integers(-1, 400)]
    flat.ClearField("attribute")
    assert gemm.input[0] == flat.output[0]


def _wrong(
    name: str,
    what: str,
    spoil: Edit,
    *words: str,
    verdict: Verdict = Verdict.MISMATCH,
    twin: str = "lenet-cam",
    at: Callable[[Size, int], bool] = everywhere,
    sizes: tuple[Size, ...] = (),
) -> Sabotage:
    return Sabotage(
        name,
        twin,
        what,
        verdict,
        spoil,
        at=at,
        words=words,
        sizes=sizes,
    )


OUTPUTS = (
    _wrong(
        "softmax axis",
        "Softmax over the batch",
        softmax_over_batch,
        "output 'logits'",
        twin="photo",
    ),
    _wrong(
        "no softmax", "scores for probabilities", without_softmax, "x the budget of", twin="photo"
    ),
    _wrong(
        "swapped outputs",
        "the map before the logits",
        lambda g: g.outputs("map", "logits"),
        "in the order map, logits",
        verdict=Verdict.SHAPE,
    ),
    _wrong(
        "missing output",
        "the map is left out",
        lambda g: g.outputs("logits"),
        "1 output(s): logits; expected 2",
        verdict=Verdict.SHAPE,
    ),
    _wrong(
        "extra output",
        "an output that the module lacks",
        another_output,
        "3 output(s): logits, map, extra",
        verdict=Verdict.SHAPE,
    ),
    _wrong(
        "renamed output",
        "the map has another name",
        renamed,
        "called logits, scores",
        verdict=Verdict.SHAPE,
    ),
    _wrong(
        "another rank",
        "logits (batch, classes, 1)",
        reshaped("logits", 3, lambda g, t: g.add("Unsqueeze", t, g.integers(2))),
        "output 'logits' has shape",
        verdict=Verdict.SHAPE,
    ),
    _wrong(
        "a class left out",
        "nine logits for ten",
        reshaped(
            "logits", 2, lambda g, t: g.add("Slice", t, g.integers(0), g.integers(9), g.integers(1))
        ),
        "output 'logits' has shape",
        verdict=Verdict.SHAPE,
    ),
    _wrong(
        "float64 output",
        "logits of another type",
        retyped("logits", 2, TensorProto.DOUBLE),
        "output 'logits' is float64, expected float32",
        verdict=Verdict.SHAPE,
    ),
    _wrong(
        "int32 label",
        "a label of another type",
        retyped("label", 1, TensorProto.INT32),
        "output 'label' is int32, expected int64",
        verdict=Verdict.SHAPE,
        twin="labels",
    ),
    _wrong(
        "label off by one",
        "classes counted from one",
        instead("label", lambda g, t: g.add("Add", t, g.constant(1, np.int64))),
        "output 'label'",
        "expected to be equal",
        twin="labels",
    ),
    _wrong(
        "label that never changes",
        "the label of the first image for all",
        instead("label", first_label),
        "output 'label'",
        "expected to be equal",
        twin="labels",
        at=lambda size, batch: (size, batch) == (Size(33, 20), 2),
    ),
    _wrong(
        "scores behind a mask",
        "zeros for all scores but the masked one",
        instead("logits", only_the_mask),
        "output 'logits'",
        twin="masked",
    ),
    _wrong(
        "constant output",
        "the same logits for every image",
        instead("logits", constant),
        "output 'logits'",
    ),
    _wrong(
        "first item for all",
        "the other items of a batch are ignored",
        instead("logits", first_for_all),
        "every batch item has the answer of the first one",
        at=in_a_batch,
    ),
    _wrong(
        "reversed batch",
        "items in the opposite order",
        instead("logits", reversed_batch),
        "output 'logits'",
        at=in_a_batch,
    ),
    _wrong(
        "averaged batch",
        "one answer for the whole batch",
        reshaped("logits", 2, batch_mean),
        "the batch is not kept",
        at=in_a_batch,
        verdict=Verdict.SHAPE,
    ),
    _wrong(
        "averaged batch for all",
        "every item has the batch's average",
        instead("logits", mean_for_all),
        "output 'logits'",
        at=in_a_batch,
    ),
    _wrong(
        "space folded into batch",
        "Reshape to [-1, K] for Flatten",
        folded,
        "the batch is not kept",
        twin="lenet-adaptive",
        verdict=Verdict.SHAPE,
        at=lambda size, _: size == Size(52, 52),
        sizes=(Size(32, 32), Size(52, 52)),
    ),
)
