"""`validate_model` as a whole: sizes, bounds, tolerances, refusals, progress."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from anysize.errors import ModelFileError, SourceError, UnsupportedModelError, UsageError
from anysize.sizes import Size
from anysize.validators import Verdict, validate_model
from anysize.validators.spool import Spool

SIZE = Size(8, 8)
BOUNDS = {"anysize.head": "fc", "anysize.size": "8x8", "anysize.min_size": "8x8"}


def scaled(factor):
    return lambda graph, logits: graph.add("Mul", logits, graph.constant(factor))


def test_auto_covers_the_declared_interval_and_its_outside(tiny):
    metadata = {**BOUNDS, "anysize.max_size": "11x11"}
    report = validate_model(tiny.fc_file(tiny.fc(), metadata=metadata), tiny.fc())
    found = {str(cell.size): cell.verdict for cell in report.cells}
    assert found["8x8"] == found["11x11"] == found["8x11"] == Verdict.PASS
    assert found["7x8"] == found["12x11"] == Verdict.REJECTED
    assert report.ok
    assert str(report.model.max_size) == "11x11"


def test_an_answer_outside_the_declared_sizes_is_accepted_even_if_pytorch_would_answer(tiny):
    metadata = {**BOUNDS, "anysize.max_size": "9x9"}
    path = tiny.fc_file(tiny.fc(), metadata=metadata)
    report = validate_model(path, tiny.fc(), sizes=(SIZE, Size(10, 10)))
    found = {str(cell.size): cell for cell in report.cells}
    assert found["8x8"].verdict is Verdict.PASS
    assert found["10x10"].verdict is Verdict.ACCEPTED
    assert "the file declares sizes 8x8 to 9x9" in found["10x10"].message


def test_auto_takes_a_static_input_as_the_training_size(tiny):
    report = validate_model(tiny.fc_file(tiny.fc(), batch=1, side=8), tiny.fc(), batches=(1,))
    assert any(cell.size == SIZE and cell.verdict is Verdict.PASS for cell in report.cells)


def test_auto_without_any_training_size_asks_for_sizes(tiny):
    with pytest.raises(UsageError, match=r"sizes auto: .*; give --sizes"):
        validate_model(tiny.fc_file(tiny.fc()), tiny.fc())


def test_a_tolerance_replaces_the_budget(tiny):
    path = tiny.fc_file(tiny.fc(), tail=scaled(1.001))
    assert validate_model(path, tiny.fc(), sizes=(SIZE,)).exit_code == 1
    report = validate_model(path, tiny.fc(), sizes=(SIZE,), rtol=2e-3)
    assert report.ok
    assert report.tolerance == "atol=0 rtol=0.002"
    assert validate_model(path, tiny.fc(), sizes=(SIZE,), atol=1e-7).exit_code == 1


def test_a_tolerance_that_nothing_could_fail_is_vacuous(tiny):
    report = validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), sizes=(SIZE,), atol=100.0)
    assert {cell.verdict for cell in report.cells} == {Verdict.VACUOUS}


def test_nothing_but_rejections_exits_3(tiny):
    report = validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), sizes=(Size(4, 4), Size(20, 20)))
    assert {cell.verdict for cell in report.cells} == {Verdict.REJECTED}
    assert report.exit_code == 3
    assert not report.ok


def test_progress_counts_up_to_what_it_announced(tiny):
    seen = []
    validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), sizes=(SIZE,), progress=seen.append)
    assert [step.done for step in seen] == list(range(seen[0].total))
    assert "reference at 8x8 batch 1" in seen[0].text


def test_no_array_is_left_behind(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    path = tiny.fc_file(tiny.fc())
    validate_model(path, tiny.fc(), sizes=(SIZE, Size(20, 20)))
    with pytest.raises(SourceError):
        validate_model(path, tiny.fc().train(), sizes=(SIZE,))
    assert set(tmp_path.iterdir()) == before | {path}


def test_a_spool_forgets_what_is_replaced(tmp_path):
    import numpy as np

    from anysize.validators.cases import Case

    case, array = Case(SIZE, 1), np.arange(3)
    with Spool(tmp_path) as spool:
        spool.write(case, "answer", (array, array))
        spool.write(case, "answer", (array,))
        assert len(spool.read(case, "answer")) == 1
        assert spool.read(case, "nothing") == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtimes": ()}, "no runtime"),
        ({"runtimes": ("tensorflow",)}, "known are ort-cpu"),
        ({"sizes": ()}, "no size or no batch"),
        ({"batches": ()}, "no size or no batch"),
        ({"batches": (0,)}, "batch 0: expected 1 to"),
        ({"atol": -1.0}, "--atol -1.0: expected a number from 0 on"),
        ({"rtol": float("nan")}, "--rtol nan: expected a number from 0 on"),
        ({"arbiter": "float128"}, "arbiter 'float128': expected float64 or none"),
        ({"seed": -1}, "seed -1: expected"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_malformed_argument_is_refused(tiny, options, words):
    with pytest.raises(UsageError, match=words):
        validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), **{"sizes": (SIZE,), **options})


def test_what_is_no_reference_is_refused(tiny):
    with pytest.raises(SourceError, match=r"got int, expected an nn\.Module or an ONNX file"):
        validate_model(tiny.fc_file(tiny.fc()), 7, sizes=(SIZE,))


def test_a_file_that_is_no_onnx_is_refused(tiny, tmp_path):
    path = tmp_path / "cat.onnx"
    path.write_bytes(b"meow")
    for subject, original in ((path, tiny.fc()), (tiny.fc_file(tiny.fc()), path)):
        with pytest.raises(ModelFileError, match=r"cat\.onnx"):
            validate_model(subject, original, sizes=(SIZE,))


def edited(tiny, change):
    path = tiny.fc_file(tiny.fc())
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return path


def test_another_input_than_one_float32_image_is_refused(tiny):
    def second_input(graph):
        graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [None, 5]))

    def free_channels(graph):
        graph.input[0].type.tensor_type.shape.dim[1].dim_param = "channels"

    for change, words in ((second_input, "'mask'"), (free_channels, "channels are not declared")):
        with pytest.raises(UnsupportedModelError, match=words):
            validate_model(edited(tiny, change), tiny.fc(), sizes=(SIZE,))
