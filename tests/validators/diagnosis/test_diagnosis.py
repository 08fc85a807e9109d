"""Diagnosis: the node that a runtime computes wrong is named, and a wrong graph is told apart."""

from __future__ import annotations

import io
import shlex
import zipfile

import numpy as np
import onnx
import pytest
from rich.console import Console

from anysize.errors import UsageError
from anysize.sizes import Size
from anysize.validators import Verdict, validate_model
from anysize.validators.diagnosis import load_inputs, save_inputs
from anysize.validators.report import Culprit, Report
from anysize.validators.report.reproduce import reproduce
from anysize.validators.report.table import report_table
from anysize.validators.runtimes import Availability, Provenance
from anysize.validators.runtimes.ort_cpu import OrtCpu

SIZES = (Size(8, 8), Size(9, 10))


class Errs:
    """ONNX Runtime, which whose nodes are edited as they are loaded."""

    name, profile, device = "errs", "strict", "cpu"

    def __init__(self, edit):
        self.edit = edit

    def availability(self):
        return Availability(is_available=True)

    def version(self):
        return "1"

    def load(self, model_path, *, threads):
        model = onnx.load(model_path)
        self.edit(model)
        wrong = model_path.with_name("wrong.onnx")
        onnx.save(model, wrong)
        return OrtCpu().load(wrong, threads=threads)


def leaky(model):
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "LeakyRelu"


def unknown_relu(model):
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Rellu"


def leaky_where_it_is_not_watched(model):
    if len(model.graph.output) == 1:
        leaky(model)


class Remembers(Errs):
    """Right in a new session, wrong after another size has run on it."""

    wrong = staticmethod(lambda array: array + 1)

    def __init__(self):
        super().__init__(lambda model: None)

    def load(self, model_path, *, threads):
        session = super().load(model_path, threads=threads)
        run, seen, wrong = session.run, [], self.wrong

        class Session:
            def run(self, inputs):
                (images,) = inputs.values()
                seen.append(images.shape[2])
                answer = dict(run(inputs))
                if len(set(seen)) > 1:
                    answer = {name: wrong(array) for name, array in answer.items()}
                return answer

            def provenance(self):
                return Provenance()

            def close(self):
                session.close()

        return Session()


@pytest.fixture
def diagnosed(tiny, tmp_path):
    def diagnosed(path, runtime, sizes=SIZES, **options):
        report = validate_model(
            path, tiny.fc(), runtimes=(runtime,), sizes=sizes, batches=(2,), bisect=tmp_path
        )
        found = [cell for cell in report.cells if cell.diagnosis is not None]
        assert found, report.cells
        assert Report.from_json(report.to_json()) == report
        return found[0].diagnosis

    return diagnosed


def test_the_node_that_a_runtime_computes_wrong_is_named(tiny, diagnosed):
    found = diagnosed(tiny.fc_file(tiny.fc()), Errs(leaky))
    assert found.culprit is Culprit.RUNTIME
    assert found.operator == "Relu"
    assert found.shape == (2, 6, 8, 8)
    assert found.error > found.budget > 0
    assert "runtime wrong: first at node 'relu_" in found.text


def test_a_wrong_graph_is_not_blamed_on_the_runtime(tiny, diagnosed):
    path = tiny.fc_file(tiny.fc(), bias=False)
    for runtime in ("ort-cpu", "onnx-reference"):
        found = diagnosed(path, runtime)
        assert found.culprit is Culprit.GRAPH
        assert (found.operator, found.layer) == ("Gemm", "linear")
        assert found.text.startswith("the graph is wrong, not the runtime")


def test_a_wrong_graph_is_to_blame_where_the_runtime_is_only_a_little_off(tiny, tmp_path):
    """A runtime is asked to be as near to the graph as float32 is; the graph may be far off."""

    def nearly(model):
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.001), tensor.name))

    path = tiny.fc_file(tiny.fc(), bias=False)
    report = validate_model(
        path, tiny.fc(), runtimes=(Errs(nearly),), sizes=SIZES, batches=(2,), bisect=tmp_path
    )
    found = report.cells[0].diagnosis
    assert found.culprit is Culprit.GRAPH
    assert "in float64, too, it is far from what the reference computes" in found.text


def test_a_graph_that_draws_numbers_is_random(tiny, diagnosed):
    def noise(graph, logits):
        return graph.add("Add", logits, graph.add("RandomNormalLike", logits))

    found = diagnosed(tiny.fc_file(tiny.fc(), tail=noise), "ort-cpu")
    assert found.culprit is Culprit.GRAPH
    assert found.operator == "RandomNormalLike"
    assert "makes other numbers in each run" in found.text


def test_an_optimisation_is_told_from_a_wrong_node(tiny, diagnosed):
    found = diagnosed(tiny.fc_file(tiny.fc()), Errs(leaky_where_it_is_not_watched))
    assert found.culprit is Culprit.OPTIMISATION


def test_an_answer_that_depends_on_what_ran_before_is_told(tiny, diagnosed):
    found = diagnosed(tiny.fc_file(tiny.fc()), Remembers())
    assert found.culprit is Culprit.STATE


def test_a_runtime_that_fails_only_after_another_size_is_told(tiny, diagnosed):
    class Forgets(Remembers):
        wrong = staticmethod(lambda _: {}["shape of another run"])

    found = diagnosed(tiny.fc_file(tiny.fc()), Forgets())
    assert found.culprit is Culprit.STATE


def test_the_node_that_a_runtime_lacks_is_named(tiny, diagnosed):
    found = diagnosed(tiny.fc_file(tiny.fc()), Errs(unknown_relu))
    assert (found.culprit, found.operator) == (Culprit.RUNTIME, "Relu")
    assert "cannot load node 'relu_" in found.text


def test_shapes_are_not_asked_for_where_a_runtime_has_a_type_of_its_own_for_them(tiny, diagnosed):
    def reshaped(graph, pooled):
        shape = graph.add("Shape", pooled)
        batch = graph.add(
            "Slice", shape, graph.constant([0], np.int64), graph.constant([1], np.int64)
        )
        rest = graph.constant([24], np.int64)
        return graph.add("Reshape", pooled, graph.add("Concat", batch, rest, axis=0))

    class Fussy(Errs):
        def load(self, model_path, *, threads):
            model = onnx.load(model_path)
            kinds = {output.type.tensor_type.elem_type for output in model.graph.output}
            if kinds != {onnx.TensorProto.FLOAT}:
                raise RuntimeError("unsupported type TDim")
            if "Gemm" in {node.op_type for node in model.graph.node}:
                raise RuntimeError("no Gemm")
            return super().load(model_path, threads=threads)

    path = tiny.fc_file(tiny.fc(), flatten=reshaped)
    found = diagnosed(path, Fussy(lambda model: None), sizes=(Size(8, 8),))
    assert (found.culprit, found.operator) == (Culprit.RUNTIME, "Gemm")


def test_a_node_that_nobody_can_run_is_the_graph_s_fault(tiny, diagnosed):
    # A baked Reshape, for other batches than the two images that come.
    def baked(graph, pooled):
        return graph.add("Reshape", pooled, graph.constant([5, 24], np.int64))

    path = tiny.fc_file(tiny.fc(), flatten=baked)
    found = diagnosed(path, "ort-cpu")
    assert found.culprit is Culprit.GRAPH
    assert "each tensor is right up to node 'reshape_" in found.text
    assert "(Reshape), which fails" in found.text


def test_more_tensors_than_are_held_at_once_are_searched(tiny, diagnosed):
    def long(graph, image):
        for _ in range(40):
            image = graph.add("Identity", image)
        return image

    found = diagnosed(tiny.fc_file(tiny.fc(), image=long), Errs(leaky))
    assert found.operator == "Relu"


def test_a_good_report_is_not_diagnosed(tiny, tmp_path):
    report = validate_model(
        tiny.fc_file(tiny.fc()), tiny.fc(), sizes=SIZES, batches=(1,), bisect=tmp_path
    )
    assert report.ok
    assert list(tmp_path.glob("*.npz")) == []


def test_the_failing_input_is_saved_and_fails_again(tiny, tmp_path):
    path = tiny.fc_file(tiny.fc(), bias=False)
    first = validate_model(path, tiny.fc(), sizes=SIZES, batches=(2,), bisect=tmp_path)
    saved = first.cells[0].diagnosis.inputs
    again = validate_model(path, tiny.fc(), inputs=load_inputs(tmp_path / saved))
    assert [(c.size, c.batch, c.verdict) for c in again.cells] == [
        (Size(8, 8), 2, Verdict.MISMATCH)
    ]
    assert again.cells[0].outputs == first.cells[0].outputs


def test_the_diagnosis_is_told_in_every_format(tiny, tmp_path):
    path = tiny.fc_file(tiny.fc(), bias=False)
    report = validate_model(path, tiny.fc(), sizes=SIZES, batches=(2,), bisect=tmp_path)
    stream = io.StringIO()
    Console(file=stream, width=100).print(report_table(report, 100))
    for text in (stream.getvalue(), report.to_markdown()):
        assert "the graph is wrong, not the runtime" in " ".join(text.split())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {"other": a["input"]}, "got other, expected input"),
        (lambda a: {"input": a["input"][0]}, r"expected \[batch, 3, height, width\]"),
        (lambda a: {"input": a["input"].astype(np.float64)}, "is float64, expected float32"),
    ],
    ids=["name", "rank", "type"],
)
def test_inputs_that_the_graph_does_not_take_are_refused(tiny, change, words):
    given = change({"input": np.zeros((1, 3, 8, 8), np.float32)})
    with pytest.raises(UsageError, match=words):
        validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), inputs=given)


def test_a_file_that_holds_no_arrays_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"x\.npz: cannot be read"):
        load_inputs(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("input.npy", b"cos\nsystem\n")
    with pytest.raises(UsageError, match=r"x\.npz: cannot be read"):
        load_inputs(path)
    save_inputs({"input": np.ones((1, 2), np.float32)}, path)
    assert load_inputs(path)["input"].shape == (1, 2)


def test_the_command_of_a_diagnosis_really_reproduces_it(tmp_path, monkeypatch, capsys):
    import anysize
    from anysize.cli import main

    monkeypatch.chdir(tmp_path)
    anysize.export("digits", "a file.onnx", head="gap", verify=False)
    model = onnx.load("a file.onnx")
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(tensor)[::-1].copy()
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, "a file.onnx")
    options = ["--sizes", "32x32", "--batches", "2"]
    assert main(["validate", "a file.onnx", *options, "--bisect", "--json", "report.json"]) == 1
    report = Report.from_json((tmp_path / "report.json").read_text())
    words = shlex.split(reproduce(report, report.cells[0]))
    assert "--inputs" in words
    assert words[0] == "anysize"
    capsys.readouterr()
    assert main([*words[1:], "--json", "-"]) == 1
    again = Report.from_json(capsys.readouterr().out)
    assert again.cells[0].outputs == report.cells[0].outputs
    assert main([*words[1:], "--batches", "1"]) == 2
