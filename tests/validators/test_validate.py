"""`validate_model` as a whole: sizes, bounds, tolerances, refusals, progress."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import anysize
from anysize.errors import (
    ModelFileError,
    NotRunError,
    SourceError,
    UnsupportedModelError,
    UsageError,
)
from anysize.sizes import Size, SizeRange, Steps
from anysize.surgery import guard_max_size, guard_steps, read_metadata, write_metadata
from anysize.validators import Verdict, validate_model
from anysize.validators.inputs.cases import Case
from anysize.validators.inputs.images import make_images
from anysize.validators.run.spool import Spool
from anysize.validators.runtimes.ort_cpu import OrtCpu

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


ONE_SIZE = {"anysize.size": "8x8", "anysize.min_size": "8x8", "anysize.max_size": "8x8"}


@pytest.mark.parametrize("sizes", [(SIZE, Size(9, 8), Size(20, 20)), "auto", "quick"])
def test_a_file_that_declares_fewer_sizes_than_its_module_takes_is_red(tiny, sizes):
    path = tiny.fc_file(tiny.fc(), side=8, metadata=ONE_SIZE)
    report = validate_model(path, tiny.fc(), sizes=sizes)
    found = {str(cell.size): cell for cell in report.cells}
    assert found["9x8"].verdict is Verdict.ERROR
    words = "the reference takes 9x8, and the file declares sizes 8x8 only: "
    assert found["9x8"].message.startswith(words)
    others = {cell.verdict for cell in report.cells if max(cell.size.height, cell.size.width) > 11}
    assert others <= {Verdict.REJECTED}
    assert report.exit_code == 1
    assert not report.notes


@pytest.mark.parametrize(
    ("sizes", "refused"), [((SIZE, Size(9, 8), Size(20, 20)), "9x8"), ("auto", "9x11")]
)
def test_a_file_that_declares_fewer_sizes_than_its_onnx_original_takes_is_red(tiny, sizes, refused):
    original = tiny.fc_file(tiny.fc(), name="original.onnx")
    path = tiny.fc_file(tiny.fc(), metadata={**ONE_SIZE, "anysize.max_size": "8x11"})
    model = onnx.load(path)
    guard_max_size(model, Size(8, 11))
    onnx.save(model, path)
    report = validate_model(path, original, sizes=sizes)
    found = {str(cell.size): cell for cell in report.cells}
    assert found[refused].verdict is Verdict.ERROR
    words = f"the reference takes {refused}, and the file declares sizes 8x8 to 8x11: "
    assert found[refused].message.startswith(words)
    others = {cell.verdict for cell in report.cells if max(cell.size.height, cell.size.width) > 11}
    assert others <= {Verdict.REJECTED}
    assert report.exit_code == 1
    model.metadata_props.add(key="anysize.asked_max_size", value="8x11")
    onnx.save(model, path)
    assert validate_model(path, original, sizes=sizes).ok


@pytest.mark.parametrize("sizes", [(Size(32, 32), Size(40, 39)), "auto"])
def test_a_rewritten_file_that_declares_too_few_sizes_is_red_against_its_original(tmp_path, sizes):
    original, path = tmp_path / "fc.onnx", tmp_path / "any.onnx"
    anysize.export("lenet", original, head="fc", verify=False)
    anysize.rewrite(original, path, to="fcn", verify="off")
    assert validate_model(path, original, sizes=sizes).ok
    model, few = onnx.load(path), SizeRange(Size(32, 32), None, Steps(2), Steps(2))
    guard_steps(model, few)
    write_metadata(model, read_metadata(model).with_sizes(few))
    onnx.save(model, path)
    report = validate_model(path, original, sizes=sizes)
    wrong = [cell for cell in report.cells if not cell.is_good]
    assert {cell.verdict for cell in wrong} == {Verdict.ERROR}
    assert all("the reference takes" in cell.message for cell in wrong)
    assert all(cell.size.height % 2 or cell.size.width % 2 for cell in wrong)


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ({"anysize.asked_max_size": "8x8"}, Verdict.REJECTED),
        ({"anysize.asked_max_size": "9x9"}, Verdict.ERROR),
        ({"anysize.asked_min_size": "8x8"}, Verdict.ERROR),
    ],
)
def test_a_bound_that_the_user_wanted_is_no_fault(tiny, bound, expected):
    path = tiny.fc_file(tiny.fc(), side=8, metadata={**ONE_SIZE, **bound})
    report = validate_model(path, tiny.fc())
    assert {str(cell.size): cell.verdict for cell in report.cells}["9x8"] is expected


def test_an_answer_that_is_not_one_for_each_image_takes_no_size(tiny):
    class Folding(type(tiny.fc())):
        def forward(self, images):
            maps = self.pool(torch.relu(self.conv(images)))
            return self.linear(maps.reshape(-1, self.linear.in_features))

    module = Folding().eval()
    path = tiny.fc_file(module, metadata={**BOUNDS, "anysize.max_size": "11x11"})
    assert module(torch.zeros(1, 3, 16, 8)).shape[0] == 2
    report = validate_model(path, module)
    found = {str(cell.size): cell.verdict for cell in report.cells}
    assert found["16x8"] is found["16x16"] is Verdict.REJECTED
    assert report.ok


def test_a_report_says_which_sizes_the_file_alone_rejects(tiny):
    original = tiny.fc_file(tiny.fc()).rename(tiny.folder / "original.onnx")
    metadata = {**ONE_SIZE, "anysize.asked_max_size": "8x8"}
    path = tiny.fc_file(tiny.fc(), side=8, metadata=metadata)
    report = validate_model(path, tiny.fc(), sizes=(SIZE, Size(9, 9), Size(20, 20)))
    found = {str(cell.size): cell for cell in report.cells if cell.batch == 1}
    assert found["8x8"].verdict is Verdict.PASS
    assert found["9x9"].verdict is found["20x20"].verdict is Verdict.REJECTED
    assert "the file declares sizes 8x8 only" in found["9x9"].message
    (note,) = report.notes
    assert note.endswith("so that it must reject 9x9; the reference takes them")
    assert not validate_model(path, tiny.fc()).notes  # auto asks for some on purpose
    (note,) = validate_model(path, original, sizes=(SIZE, Size(9, 9))).notes
    assert note.endswith("so that it must reject 9x9; the reference takes them")


def test_a_reference_that_takes_nothing_is_named(tiny):
    class Gray(TinyFcLike):
        def forward(self, images):
            raise AssertionError("expected one channel")

    report = validate_model(tiny.fc_file(tiny.fc()), Gray().eval(), sizes=(SIZE,))
    assert {cell.verdict for cell in report.cells} == {Verdict.ACCEPTED}
    assert report.notes == ("the reference takes none of these inputs: expected one channel",)


class TinyFcLike(nn.Module):
    """A module of the user's own."""


class Labels(nn.Module):
    """TinyFc with the label of its scores, behind them or alone."""

    def __init__(self, inner, *, is_alone):
        super().__init__()
        self.inner, self.is_alone = inner, is_alone

    def forward(self, images):
        scores = self.inner(images)
        return scores.argmax(1) if self.is_alone else (scores, scores.argmax(1))


def labelled(tiny, module, *, is_alone, is_constant):
    """TinyFc as a graph with the label of its scores, or with the one that the first image has."""
    path = tiny.fc_file(module)
    model = onnx.load(path)
    graph = model.graph
    scores = "logits"
    if is_constant:
        first = make_images(SIZE, 1, channels=3, seed=0)
        label = int(module(torch.from_numpy(first)).argmax())
        graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
        graph.initializer.append(numpy_helper.from_array(np.eye(5)[label] + 0.0, "hot64"))
        graph.node.append(helper.make_node("Cast", ["hot64"], ["hot"], to=TensorProto.FLOAT))
        graph.node.append(helper.make_node("Mul", ["logits", "zero"], ["nothing"]))
        graph.node.append(helper.make_node("Add", ["nothing", "hot"], ["other"]))
        scores = "other"
    graph.node.append(helper.make_node("ArgMax", [scores], ["label"], axis=1, keepdims=0))
    kept = [] if is_alone else [*graph.output]
    del graph.output[:]
    graph.output.extend([*kept, helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])])
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("is_alone", [False, True], ids=["behind scores", "alone"])
def test_a_label_is_compared_on_images_that_have_others(tiny, is_alone):
    module = tiny.fc()
    with torch.no_grad():  # the first class where features are strong, as on bright images
        module.linear.weight.zero_()
        module.linear.weight[0] = 1.0
        module.linear.bias[:] = torch.tensor([0.0, 15.0, -9.0, -8.0, -7.0])
    for is_constant, verdicts in (
        (False, {Verdict.PASS}),
        (True, {Verdict.PASS, Verdict.MISMATCH}),
    ):
        path = labelled(tiny, module, is_alone=is_alone, is_constant=is_constant)
        original = Labels(module, is_alone=is_alone).eval()
        report = validate_model(path, original, sizes=(SIZE, Size(9, 10)))
        assert {cell.verdict for cell in report.cells} == verdicts
        assert bool(report.notes) == is_alone


def test_a_label_that_no_image_changes_proves_nothing(tiny):
    module = tiny.fc()
    with torch.no_grad():
        module.linear.bias[1] = 1e3
    path = labelled(tiny, module, is_alone=False, is_constant=True)
    report = validate_model(path, Labels(module, is_alone=False).eval(), sizes=(SIZE,))
    assert {cell.verdict for cell in report.cells} == {Verdict.VACUOUS}
    assert "'label' is the same for every image" in report.cells[0].message


def test_an_output_that_is_listed_twice_is_refused(tiny):
    path = edited(tiny, lambda graph: graph.output.append(graph.output[0]))
    with pytest.raises(ModelFileError, match="has 2 outputs called 'logits', expected one"):
        validate_model(path, tiny.fc(), sizes=(SIZE,))


def test_a_sequence_is_no_tensor(tiny):
    def wrapped(graph):
        graph.node.append(helper.make_node("SequenceConstruct", ["logits"], ["list"]))
        del graph.output[:]
        graph.output.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None))

    path = edited(tiny, wrapped)
    for subject, original in ((path, tiny.fc()), (tiny.fc_file(tiny.fc(), name="b.onnx"), path)):
        with pytest.raises(UnsupportedModelError, match="output 'list': is a sequence"):
            validate_model(subject, original, sizes=(SIZE,))


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


def test_a_tolerance_for_one_output_leaves_the_others_to_their_budget(tiny):
    def coarse(name):
        """Both outputs, one of them wrong by a part in a thousand."""
        path = tiny.cam_file(tiny.cam())
        model = onnx.load(path)
        model.graph.initializer.append(numpy_helper.from_array(np.float32(1.001), "factor"))
        for node in model.graph.node:
            node.output[:] = [f"{o}_right" if o == name else o for o in node.output]
            node.input[:] = [f"{i}_right" if i == name else i for i in node.input]
        model.graph.node.append(helper.make_node("Mul", [f"{name}_right", "factor"], [name]))
        onnx.save(model, path)
        return path

    options = {"sizes": (SIZE,), "rtol": {"map": 2e-3}}
    report = validate_model(coarse("map"), tiny.cam(), **options)
    assert report.ok
    assert report.tolerance == "map:atol=0 map:rtol=0.002"
    assert report.cells[0].outputs[0].deviation.budget < 1e-5
    assert validate_model(coarse("logits"), tiny.cam(), **options).exit_code == 1
    options["rtol"] = {"": 2e-3, "map": 0.0}
    assert validate_model(coarse("logits"), tiny.cam(), **options).exit_code == 1
    assert validate_model(coarse("logits"), tiny.cam(), sizes=(SIZE,), rtol={"": 2e-3}).ok


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


def test_a_full_temporary_folder_is_named(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("27380 requested and 7664 written")

    monkeypatch.setattr("numpy.save", full)
    with Spool() as spool, pytest.raises(UsageError, match="set TMPDIR to a"):
        spool.write(Case(SIZE, 1), "answer", (np.arange(3),))


def test_a_spool_forgets_what_is_replaced(tmp_path):
    case, array = Case(SIZE, 1), np.arange(3)
    with Spool() as spool:
        spool.write(case, "answer", (array, array))
        spool.write(case, "answer", (array,))
        assert len(spool.read(case, "answer")) == 1
        assert spool.read(case, "nothing") == ()


def test_a_spool_does_not_believe_a_file_that_was_changed():
    case = Case(SIZE, 1)
    for change in (Path.unlink, lambda path: path.write_bytes(b"meow")):
        with Spool() as spool:
            spool.write(case, "float64", (np.arange(3),))
            (path,) = spool.files(case, "float64")
            change(path)
            with pytest.raises(NotRunError, match="was changed by another process"):
                spool.read(case, "float64")


def test_truth_does_not_lie_beside_the_inputs():
    with Spool() as spool:
        for label in ("inputs", "float32"):
            spool.write(Case(SIZE, 1), label, (np.arange(3),))
        folders = {spool.files(Case(SIZE, 1), label)[0].parent for label in ("inputs", "float32")}
        assert len(folders) == 2
    assert not any(folder.exists() for folder in folders)


def test_a_file_that_changes_while_it_is_validated_is_refused(tiny):
    path = tiny.fc_file(tiny.fc())

    class Swaps(OrtCpu):
        def load(self, model_path, *, threads):
            session = super().load(model_path, threads=threads)
            tiny.fc_file(tiny.fc(), bias=False)
            return session

    with pytest.raises(ModelFileError, match="changed while it was validated"):
        validate_model(path, tiny.fc(), runtimes=(Swaps(),), sizes=(SIZE,))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtimes": ()}, "no runtime"),
        ({"runtimes": ("tensorflow",)}, "known are ort-cpu"),
        ({"sizes": ()}, "no size or no batch"),
        ({"batches": ()}, "no size or no batch"),
        ({"batches": (0,)}, "batch 0: expected a whole number from 1 to"),
        ({"atol": -1.0}, "--atol -1.0: expected a number from 0 on"),
        ({"rtol": float("nan")}, "--rtol nan: expected a number from 0 on"),
        ({"rtol": {"map": 0.1}}, "--rtol map:0.1: the file has no such output; it has logits"),
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


def test_an_input_that_nobody_can_make_up_is_refused(tiny):
    def second_input(graph):
        graph.input.append(helper.make_tensor_value_info("mask", TensorProto.INT64, [None, 5]))

    def free_channels(graph):
        graph.input[0].type.tensor_type.shape.dim[1].dim_param = "channels"

    for change, words in ((second_input, "'mask'"), (free_channels, "channels are not declared")):
        with pytest.raises(UnsupportedModelError, match=words):
            validate_model(edited(tiny, change), tiny.fc(), sizes=(SIZE,))
