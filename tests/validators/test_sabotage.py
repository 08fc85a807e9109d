"""Wrong graphs are red with the right verdict, and their healthy twins green, on each runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from anysize.sizes import Size
from anysize.validators import Report, Verdict, validate_model

RUNTIMES = ("ort-cpu", "onnx-reference")
INSIDE = (Size(8, 8), Size(9, 10), Size(11, 8))


def verdicts(report: Report, size: Size | None = None, batch: int | None = None) -> set[Verdict]:
    """Each runtime must say the same; returns what they say."""
    found = [
        {
            cell.verdict
            for cell in report.cells
            if cell.runtime == runtime and size in (None, cell.size) and batch in (None, cell.batch)
        }
        for runtime in RUNTIMES
    ]
    assert found[0] == found[1], "the runtimes disagree"
    return found[0]


def check(path, module, sizes=INSIDE, **options) -> Report:
    return validate_model(path, module, runtimes=RUNTIMES, sizes=sizes, **options)


def test_a_healthy_fixed_size_graph_passes_inside_and_is_rejected_outside(tiny):
    report = check(tiny.fc_file(tiny.fc()), tiny.fc(), (*INSIDE, Size(7, 8), Size(12, 8)))
    assert verdicts(report, Size(9, 10)) == {Verdict.PASS}
    assert verdicts(report, Size(7, 8)) == {Verdict.REJECTED}
    assert verdicts(report, Size(12, 8)) == {Verdict.REJECTED}
    assert report.ok


def hwc(graph, pooled):
    return graph.add("Flatten", graph.add("Transpose", pooled, perm=[0, 2, 3, 1]), axis=1)


def swap_rows_and_columns(graph, pooled):
    return graph.add("Flatten", graph.add("Transpose", pooled, perm=[0, 1, 3, 2]), axis=1)


def through_float16(graph, logits):
    narrow = graph.add("Cast", logits, to=TensorProto.FLOAT16)
    return graph.add("Cast", narrow, to=TensorProto.FLOAT)


def constant(graph, logits):
    zero = graph.add("Mul", logits, graph.constant(0.0))
    return graph.add("Add", zero, graph.constant([0.1, -0.2, 0.3, 0.0, 0.05]))


def first_item_for_all(graph, logits):
    first = graph.add("Gather", logits, graph.constant([0], np.int64), axis=0)
    return graph.add("Expand", first, graph.add("Shape", logits))


def reversed_batch(graph, logits):
    ends = [graph.constant([value], np.int64) for value in (-1, np.iinfo(np.int64).min, 0, -1)]
    return graph.add("Slice", logits, *ends)


def channels_reversed(graph, image):
    return graph.add("Gather", image, graph.constant([2, 1, 0], np.int64), axis=1)


def flipped(graph, image):
    ends = [graph.constant([value], np.int64) for value in (-1, np.iinfo(np.int64).min, 3, -1)]
    return graph.add("Slice", image, *ends)


def scaled(graph, logits):
    return graph.add("Mul", logits, graph.constant(1.0001))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"flatten": hwc}, id="flatten order HWC"),
        pytest.param({"flatten": swap_rows_and_columns}, id="rows and columns swapped"),
        pytest.param({"bias": False}, id="linear bias dropped"),
        pytest.param({"conv": {"bias": False}}, id="convolution bias dropped"),
        pytest.param({"conv": {"kernel": lambda w: w.swapaxes(2, 3)}}, id="kernel transposed"),
        pytest.param({"conv": {"kernel": lambda w: w[..., ::-1]}}, id="kernel flipped"),
        pytest.param({"conv": {"kernel": lambda w: w[:, ::-1]}}, id="kernel channels reversed"),
        pytest.param({"image": channels_reversed}, id="image channels reversed"),
        pytest.param({"image": flipped}, id="image flipped"),
        pytest.param({"stride": 3}, id="bins shifted"),
        pytest.param({"tail": through_float16}, id="float16 inside"),
        pytest.param({"tail": constant}, id="constant output"),
        pytest.param({"tail": scaled}, id="one part in ten thousand"),
    ],
)
def test_a_wrong_value_is_a_mismatch_at_every_size(tiny, wrong):
    report = check(tiny.fc_file(tiny.fc(), **wrong), tiny.fc(), (Size(8, 8),))
    assert verdicts(report) == {Verdict.MISMATCH}
    assert report.exit_code == 1


@pytest.mark.parametrize(
    "tail", [first_item_for_all, reversed_batch], ids=["first item for all", "items reversed"]
)
def test_a_wrong_batch_item_is_a_mismatch_only_in_a_batch(tiny, tail):
    report = check(tiny.fc_file(tiny.fc(), tail=tail), tiny.fc())
    assert verdicts(report, batch=1) == {Verdict.PASS}
    assert verdicts(report, batch=2) == {Verdict.MISMATCH}


def test_an_ignored_batch_item_is_named_in_the_message(tiny):
    report = check(tiny.fc_file(tiny.fc(), tail=first_item_for_all), tiny.fc(), batches=(2,))
    assert "every batch item has the answer of the first one" in report.cells[0].message


def test_a_nan_at_one_size_is_a_mismatch_there_and_nowhere_else(tiny):
    def nan_at_nine(graph, logits):
        height = graph.add("Gather", graph.add("Shape", "input"), graph.constant(2, np.int64))
        is_nine = graph.add("Equal", height, graph.constant(9, np.int64))
        poison = graph.add("Where", is_nine, graph.constant(np.nan), graph.constant(0.0))
        return graph.add("Add", logits, poison)

    report = check(tiny.fc_file(tiny.fc(), tail=nan_at_nine), tiny.fc())
    assert verdicts(report, Size(9, 10)) == {Verdict.MISMATCH}
    assert verdicts(report, Size(8, 8)) == {Verdict.PASS}
    assert "got nan" in next(c.message for c in report.cells if c.size == Size(9, 10))


def test_a_wrong_softmax_axis_is_a_mismatch(tiny):
    module = tiny.fc(softmax=True)
    assert check(tiny.fc_file(module), module).ok

    def over_batch(graph, _):
        softmax = next(node for node in graph.nodes if node.op_type == "Softmax")
        softmax.attribute[0].i = 0
        return softmax.output[0]

    report = check(tiny.fc_file(module, tail=over_batch), module)
    assert verdicts(report) == {Verdict.MISMATCH}


def test_space_folded_into_the_batch_is_a_shape_error(tiny):
    def fold(graph, pooled):
        return graph.add("Reshape", pooled, graph.constant([-1, 24], np.int64))

    path = tiny.fc_file(tiny.fc(), flatten=fold)
    report = check(path, tiny.adaptive(), (Size(8, 8), Size(16, 16)))
    assert verdicts(report, Size(8, 8)) == {Verdict.PASS}
    assert verdicts(report, Size(16, 16)) == {Verdict.SHAPE}
    assert "batch is not kept" in next(c.message for c in report.cells if c.size == Size(16, 16))
    # The same graph against the original that rejects such images.
    assert verdicts(check(path, tiny.fc(), (Size(16, 16),))) == {Verdict.ACCEPTED}


def test_a_graph_for_one_size_is_an_error_where_the_module_takes_more(tiny):
    path = tiny.fc_file(tiny.fc(), batch=1, side=8)
    report = check(path, tiny.adaptive(), (Size(8, 8), Size(16, 16)), batches=(1,))
    assert verdicts(report, Size(8, 8)) == {Verdict.PASS}
    assert verdicts(report, Size(16, 16)) <= {Verdict.ERROR, Verdict.SHAPE}


def test_two_outputs_in_order_pass(tiny):
    report = check(tiny.cam_file(tiny.cam()), tiny.cam(), (Size(8, 9), Size(5, 4)))
    assert verdicts(report) == {Verdict.PASS}
    assert [output.name for output in report.cells[0].outputs] == ["logits", "map"]


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        pytest.param(("map", "logits"), "in the order map, logits", id="swapped"),
        pytest.param(("logits",), "1 output(s): logits; expected 2", id="missing"),
        pytest.param(("logits", "map", "extra"), "3 output(s)", id="extra"),
        pytest.param(("logits", "extra"), "called logits, extra", id="renamed"),
    ],
)
def test_other_outputs_than_the_modules_are_a_shape_error(tiny, outputs, words):
    report = check(tiny.cam_file(tiny.cam(), outputs), tiny.cam(), (Size(8, 9),))
    assert verdicts(report) == {Verdict.SHAPE}
    assert words in report.cells[0].message


def test_another_rank_is_a_shape_error_and_nothing_is_squeezed(tiny):
    def unsqueeze(graph, logits):
        return graph.add("Unsqueeze", logits, graph.constant([2], np.int64))

    report = check(tiny.fc_file(tiny.fc(), tail=unsqueeze, rank=3), tiny.fc(), (Size(8, 8),))
    assert verdicts(report) == {Verdict.SHAPE}
    assert "shape (1, 5, 1), expected (1, 5)" in report.cells[0].message


def test_another_type_is_a_shape_error(tiny):
    def widen(graph, logits):
        return graph.add("Cast", logits, to=TensorProto.DOUBLE)

    path = tiny.fc_file(tiny.fc(), tail=widen, output_type=TensorProto.DOUBLE)
    report = check(path, tiny.fc(), (Size(8, 8),))
    assert verdicts(report) == {Verdict.SHAPE}
    assert "is float64, expected float32" in report.cells[0].message
