"""A graph that is wrong on every runtime: told once, and the layer named where it begins."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from rich.console import Console
from torch import nn

import anysize
from anysize.sizes import Size
from anysize.validators import Report, Verdict, validate_model
from anysize.validators.references.eager import ModuleReference
from anysize.validators.report import Culprit
from anysize.validators.report.story import group_failing
from anysize.validators.report.table import report_table
from anysize.validators.runtimes.ort_cpu import OrtCpu

RUNTIMES = ("ort-cpu", "onnx-reference")
SIZE, OTHER = Size(32, 32), Size(40, 36)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class Net(nn.Module):
    """Convolutions whose normalisation an exporter folds, a skip connection, a gated activation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.GELU())
        self.block = Block(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)
        for norm in (self.stem[1], self.block.bn1, self.block.bn2):
            nn.init.uniform_(norm.running_var, 0.01, 0.1)
            nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        self.eval()

    def forward(self, images):
        return self.fc(self.pool(self.block(self.stem(images))).flatten(1))


def tensor(model, name):
    return next(one for one in model.graph.initializer if one.name == name)


def node(model, operator, place=-1):
    return [one for one in model.graph.node if one.op_type == operator][place]


def changed(model, name, change):
    one = tensor(model, name)
    values = np.ascontiguousarray(change(numpy_helper.to_array(one).copy()), np.float32)
    one.CopyFrom(numpy_helper.from_array(values, name))


def zeroed_bias(model):
    changed(model, node(model, "Gemm").input[2], np.zeros_like)


def swapped_kernel(model):
    changed(model, node(model, "Conv", 1).input[1], lambda kernel: kernel.swapaxes(2, 3))


def without_first_convolutions_mean(model):
    changed(model, node(model, "Conv", 0).input[2], lambda bias: bias + 0.05)


def branch_left_out(model):
    changed(model, node(model, "Conv", 2).input[1], lambda kernel: 0.9 * kernel)


def baked_pool(model):
    pools = ("GlobalAveragePool", "ReduceMean")
    (pool,) = (one for one in model.graph.node if one.op_type in pools)
    pool.op_type = "AveragePool"
    del pool.input[1:], pool.attribute[:]
    pool.attribute.append(onnx.helper.make_attribute("kernel_shape", [14, 14]))


def by_anysize(path):
    anysize.export(Net(), path, size=SIZE, verify=False)


def by_torchscript(path):
    axes = {"input": {0: "batch", 2: "height", 3: "width"}}
    options = {"input_names": ["input"], "output_names": ["logits"], "dynamic_axes": axes}
    _by_torch(path, dynamo=False, **options)


def by_dynamo(path):
    free = torch.export.Dim.DYNAMIC
    _by_torch(
        path,
        dynamo=True,
        input_names=["input"],
        output_names=["logits"],
        dynamic_shapes=({0: free, 2: free, 3: free},),
        external_data=False,
    )


def _by_torch(path, **options):
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(Net(), (torch.zeros(2, 3, 32, 32),), path, **options)


def anonymous(path):
    """Names that tell nothing, as a tool that cleans files leaves them."""
    by_anysize(path)
    model = onnx.load(path)
    graph = model.graph
    kept = {one.name for one in (*graph.input, *graph.output)}
    names = {}
    for one in graph.node:
        one.name = ""
        for place in (one.input, one.output):
            place[:] = [
                n if n in kept or not n else names.setdefault(n, f"t{len(names)}") for n in place
            ]
    for one in graph.initializer:
        one.name = names.get(one.name, one.name)
    del graph.value_info[:]
    onnx.save(model, path)


MAKERS = (by_anysize, by_torchscript, by_dynamo, anonymous)


@pytest.fixture(scope="module", params=MAKERS, ids=lambda make: make.__name__)
def exported(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "net.onnx"
    request.param(path)
    return path


@pytest.fixture
def spoiled(exported, tmp_path):
    """Writes the file anew, with one thing wrong."""

    def spoiled(spoil):
        model = onnx.load(exported)
        spoil(model)
        onnx.save(model, tmp_path / "wrong.onnx")
        return tmp_path / "wrong.onnx"

    return spoiled


def validated(path, reference=None, runtimes=("ort-cpu",), **options):
    reference = Net() if reference is None else reference
    options = {"sizes": (SIZE, OTHER), "batches": 1, "amplified": False} | options
    return validate_model(path, reference, runtimes=runtimes, **options)


def the_diagnosis(report):
    found = {cell.diagnosis for cell in report.cells if cell.diagnosis is not None}
    assert len(found) == 1, report.cells
    return found.pop()


@pytest.mark.parametrize(
    ("spoil", "layers", "right"),
    [
        (zeroed_bias, {"fc"}, "the module itself (flatten)"),
        (swapped_kernel, {"block.bn1", "block.conv1"}, "layer 'stem.2' (gelu)"),
        (without_first_convolutions_mean, {"stem.1"}, "the module itself (input)"),
        (branch_left_out, {"block.bn2"}, "layer 'block' (relu)"),
        (baked_pool, {"pool"}, "layer 'block' (relu)"),
    ],
    ids=["bias", "kernel", "mean", "branch", "pool"],
)
def test_the_layer_is_named_whatever_exporter_wrote_the_graph(spoiled, spoil, layers, right):
    """Its normalisation lies in the convolution before it, which is not to blame."""
    found = the_diagnosis(validated(spoiled(spoil)))
    assert found.culprit is Culprit.GRAPH
    assert found.layer in layers, found.text
    assert right in found.text


def test_the_inside_of_a_layer_that_needs_several_nodes_is_that_layer(spoiled):
    def spoil(model):
        gates = [one for one in model.graph.node if one.op_type in ("Erf", "Gelu")]
        gates[0].op_type = "Tanh"
        gates[0].domain = ""
        del gates[0].attribute[:]

    assert the_diagnosis(validated(spoiled(spoil))).layer == "stem.2"


def test_a_right_graph_is_blamed_for_nothing(exported):
    report = validated(exported)
    assert report.ok
    assert all(cell.diagnosis is None for cell in report.cells)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "net.onnx"
    by_anysize(path)
    return path


def wrong(path, spoil, folder):
    model = onnx.load(path)
    spoil(model)
    onnx.save(model, folder / "wrong.onnx")
    return folder / "wrong.onnx"


def test_a_graph_is_followed_along_the_file_that_it_was_made_of(plain, tmp_path):
    found = the_diagnosis(validated(wrong(plain, swapped_kernel, tmp_path), reference=plain))
    assert found.layer == "block.conv1"
    assert "first wrong at node 'block.conv1' (Conv)" in found.text


def test_windows_are_compared_by_the_layers_of_each_window(tmp_path):
    """The FC layers run on windows, with other shapes than the map's."""
    path = tmp_path / "net.onnx"
    anysize.export("lenet", path, head="fcn", verify=False)
    path = wrong(path, lambda model: changed(model, "classifier.2.bias", np.zeros_like), tmp_path)
    for sizes in ("32x32", "40x36"):
        report = anysize.validate(path, sizes=sizes, batches=[1])
        assert the_diagnosis(report).layer == "classifier.2"


@pytest.fixture(scope="module")
def both(plain, tmp_path_factory):
    path = wrong(plain, zeroed_bias, tmp_path_factory.mktemp("both"))
    report = validated(path, runtimes=RUNTIMES)
    return replace(report, reference=replace(report.reference, argument="made:net"))


def test_what_all_runtimes_answer_is_told_once_in_every_format(both):
    (group,) = group_failing(both)
    assert group.runtimes == RUNTIMES
    assert [cell.verdict for cell in group.others] == [Verdict.MISMATCH] * 3
    assert group.also_at == "40x36 batch 1"
    assert Report.from_json(both.to_json()) == both
    stream = io.StringIO()
    Console(file=stream, width=200).print(report_table(both, 200))
    for text in (stream.getvalue(), both.to_markdown().replace("\\", ""), both.to_html()):
        words = " ".join(text.split())
        assert words.count("the graph, on ort-cpu, onnx-reference") == 1
        assert "first wrong at layer" in words
    (suite,) = ET.fromstring(both.to_junit())
    assert [p.get("value") for p in suite.iter("property") if p.get("name") == "wrong graph"] == [
        both.cells[0].diagnosis.text
    ]


def test_the_story_and_its_diagnosis_are_of_one_size(both):
    """Though the error is larger at another one."""
    cells = [replace(cell, outputs=()) if cell.size == SIZE else cell for cell in both.cells]
    (group,) = group_failing(replace(both, cells=tuple(cells)))
    assert group.told.cell.size == SIZE
    assert f"at {SIZE} batch 1 first wrong" in group.told.diagnosis
    assert "--runtimes ort-cpu,onnx-reference" in group.told.command


def narrow_inside(model):
    """A tensor goes through float16."""
    kinds = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    reader = node(model, "Conv", 2)
    place = list(model.graph.node).index(reader)
    names = (reader.input[0], "narrow", "wide")
    casts = [
        onnx.helper.make_node("Cast", [before], [after], after, to=kind)
        for before, after, kind in zip(names, names[1:], kinds, strict=False)
    ]
    reader.input[0] = "wide"
    for offset, cast in enumerate(casts):
        model.graph.node.insert(place + offset, cast)


def wide_output(model):
    double = onnx.TensorProto.DOUBLE
    node(model, "Gemm").output[0] = "narrow"
    (output,) = model.graph.output
    model.graph.node.append(onnx.helper.make_node("Cast", ["narrow"], [output.name], to=double))
    output.type.tensor_type.elem_type = double


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (narrow_inside, "wrong behind layer 'block' (relu), which is right"),
        (wide_output, "each tensor is right up to its outputs, which are not the right ones"),
    ],
    ids=["narrow", "type"],
)
def test_what_is_right_in_float64_is_told_once_where_all_runtimes_see_it(
    plain, tmp_path, spoil, words
):
    report = validated(wrong(plain, spoil, tmp_path), runtimes=RUNTIMES)
    assert words in the_diagnosis(report).text
    assert len(group_failing(report)) == 1


class Off(OrtCpu):
    """ONNX Runtime, whose answers are changed."""

    def __init__(self, name, change):
        self.name, self._change = name, change

    def load(self, model_path, *, threads):
        session, change = super().load(model_path, threads=threads), self._change

        class Session:
            provenance, close = session.provenance, session.close

            def run(self, inputs):
                return {name: change(array) for name, array in session.run(inputs).items()}

        return Session()


@pytest.mark.parametrize(
    ("changes", "blamed"),
    [
        ((lambda y: y + 1, lambda y: y + 1), False),
        ((lambda y: y, lambda y: y + 1), False),
        ((lambda y: y, lambda y: y), True),
    ],
    ids=["alike-and-not-the-graph", "one-is-wrong-besides", "the-graph"],
)
def test_runtimes_are_wrong_by_themselves_where_the_graph_does_not_mean_it(
    plain, tmp_path, changes, blamed
):
    runtimes = [Off(f"off-{place}", change) for place, change in enumerate(changes)]
    report = validated(wrong(plain, zeroed_bias, tmp_path), runtimes=runtimes)
    assert {cell.verdict for cell in report.cells} == {Verdict.MISMATCH}
    assert all((cell.diagnosis is not None) is blamed for cell in report.cells)


def test_a_graph_that_takes_what_the_reference_rejects_is_told_once(tiny, tmp_path):
    """It is no layer that is wrong."""

    def folded(graph, pooled):
        return graph.add("Reshape", pooled, graph.constant([-1, 24], np.int64))

    path = tiny.fc_file(tiny.fc(), flatten=folded)
    report = validated(path, tiny.fc(), RUNTIMES, sizes=(Size(8, 8), Size(16, 8)))
    found = the_diagnosis(report)
    assert found.text.endswith("at 16x8 batch 1 it takes what the reference rejects")
    assert [len(group.others) for group in group_failing(report)] == [1]


class Unseen(ModuleReference):
    """Computes where nobody can look."""

    def run(self, inputs, precision):
        return super().run(inputs, getattr(precision, "numbers", precision))


def test_a_reference_whose_inside_is_not_seen_leaves_the_place_open(plain, tmp_path):
    found = the_diagnosis(validated(wrong(plain, zeroed_bias, tmp_path), Unseen(Net())))
    assert "what the reference computes inside is not seen" in found.text
    assert (found.culprit, found.layer, found.node) == (Culprit.GRAPH, "", "")


def test_a_graph_of_another_network_names_no_layer(plain):
    """Nothing but the image is the same on both sides."""

    class Other(nn.Module):
        def forward(self, images):
            return torch.stack([images.std((1, 2, 3)) * k for k in range(1, 6)], 1)

    found = the_diagnosis(validated(plain, Other().eval()))
    assert found.layer in ("", "0")
    assert "wrong behind the module itself (input), which is right" in found.text
