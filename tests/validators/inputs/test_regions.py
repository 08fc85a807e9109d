"""Regions to validate with: reproducible, inside the image, and of every kind."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn

import anysize
from anysize.errors import SourceError, UnsupportedModelError
from anysize.models import HeadOptions
from anysize.models.operators import roi_align
from anysize.sizes import Size
from anysize.validators import Verdict, validate_model
from anysize.validators.inputs.cases import Case
from anysize.validators.inputs.regions import make_regions
from anysize.validators.inputs.signature import graph_inputs, make_inputs

SIDES = st.integers(1, 300)


@given(height=SIDES, width=SIDES, batch=st.integers(1, 5), seed=st.integers(0, 9))
def test_regions_lie_inside_their_images(height, width, batch, seed):
    rois = make_regions(Size(height, width), batch, seed=seed)
    assert rois.shape == (3 * batch + 3, 5)
    assert rois.dtype == np.float32
    image, x1, y1, x2, y2 = rois.T
    assert set(image) == set(range(batch))
    assert (x1 >= 0).all()
    assert (y1 >= 0).all()
    assert (x1 < x2).all()
    assert (y1 < y2).all()
    assert (x2 <= width).all()
    assert (y2 <= height).all()


def test_regions_are_varied():
    rois = make_regions(Size(90, 120), 3, seed=0)
    _, x1, y1, x2, y2 = rois.T
    assert len(np.unique(rois, axis=0)) >= len(rois) - 2
    assert ((x1 == 0) & (y1 == 0) & (x2 == 120) & (y2 == 90)).sum() == 3
    assert ((x2 - x1 == 1) & (y2 - y1 == 1)).sum() == 1
    assert ((x1 > 0) & (y1 > 0) & (x2 < 120) & (y2 < 90)).sum() >= 3
    assert list(rois[:, 0]) != sorted(rois[:, 0])


def test_the_same_arguments_give_the_same_regions():
    first, again = (make_regions(Size(40, 30), 2, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, make_regions(Size(40, 30), 2, seed=2))


def graph(*inputs):
    """A graph with these inputs; nothing is computed from the ones behind the image."""
    (image, *_), (output,) = inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    node = helper.make_node("GlobalAveragePool", [image.name], ["y"])
    return helper.make_model(helper.make_graph([node], "g", list(inputs), [output]))


def value(name, shape, elem_type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, elem_type, shape)


IMAGE = value("input", ["batch", 3, "height", "width"])


def test_an_image_and_its_regions_are_accepted():
    spec = graph_inputs(graph(IMAGE, value("rois", ["count", 5])), 0)
    spec.require_made()
    assert [other.is_regions for other in spec.others] == [True]
    assert make_inputs(Case(Size(8, 9), 2), spec, 0)["rois"].shape == (9, 5)


@pytest.mark.parametrize(
    "other",
    [
        value("boxes", ["count", 5]),
        value("rois", ["count", 4]),
        value("rois", [7, 5]),
        value("rois", ["count", 5], TensorProto.DOUBLE),
    ],
    ids=["name", "columns", "fixed", "type"],
)
def test_another_second_input_is_not_taken_for_regions(other):
    with pytest.raises(UnsupportedModelError, match=r"give arrays with --inputs"):
        graph_inputs(graph(IMAGE, other), 0).require_made()


class Regions(nn.Module):
    """The user's own network of regions."""

    input_names = ("input", "rois")
    training_size = Size(24, 24)

    def __init__(self, shift=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 6, 3, stride=2)
        self.classifier = nn.Linear(6 * 9, 5)
        self.shift = shift

    def forward(self, x, rois):
        corners = rois + self.shift * torch.tensor([0.0, 1, 1, 1, 1])
        pooled = roi_align(self.features(x), corners, (3, 3), spatial_scale=0.5)
        return self.classifier(torch.flatten(pooled, 1))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("regions") / "own.onnx"
    done = anysize.export(Regions().eval(), path)
    assert done.report is not None
    assert done.report.ok
    return path


def test_a_network_of_regions_passes_and_says_what_it_takes(file):
    report = validate_model(file, Regions().eval(), sizes=[Size(24, 24), Size(41, 33)])
    assert {cell.verdict for cell in report.cells} == {Verdict.PASS}
    names = [value.name for value in onnx.load(file).graph.input]
    assert names == ["input", "rois"]


def test_regions_shifted_by_one_pixel_are_a_mismatch(file):
    report = validate_model(file, Regions(shift=1.0).eval(), sizes=[Size(41, 33)])
    assert {cell.verdict for cell in report.cells} == {Verdict.MISMATCH}


def test_a_graph_is_a_reference_for_itself(file):
    report = validate_model(file, file, sizes=[Size(30, 25)], batches=(2,))
    assert {cell.verdict for cell in report.cells} == {Verdict.PASS}


def test_a_reference_without_regions_is_refused(file):
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(1))
    with pytest.raises(SourceError, match=r"cannot be called with 2 input\(s\)"):
        validate_model(file, module.eval(), sizes=[Size(24, 24)])


def test_a_file_of_regions_is_not_rewritten(file, tmp_path):
    done = anysize.rewrite(file, tmp_path / "out.onnx")
    assert not done.applied
    assert any("free already" in note for note in done.notes)
    assert [node.name for node in onnx.load(done.path).graph.node] == [
        node.name for node in onnx.load(file).graph.node
    ]


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("roi", HeadOptions(roi="max")),
        ("spp", HeadOptions(bins="paper")),
        ("spp", HeadOptions(levels=(3, 1))),
    ],
    ids=["roi-max", "spp-paper", "spp-3-1"],
)
def test_a_file_remembers_the_options_of_its_head(head, options, tmp_path):
    path = tmp_path / "file.onnx"
    anysize.export("lenet", path, head=head, options=options, verify=False)
    sizes = [Size(32, 32), Size(60, 44), Size(57, 38)]
    report = anysize.validate(path, sizes=sizes)
    assert report.ok
    verdicts = {cell.verdict for cell in report.cells}
    # 57 pixels leave 11 cells, which the paper's formula does not cut into 4 bins.
    expected = {Verdict.PASS, Verdict.REJECTED} if options.bins == "paper" else {Verdict.PASS}
    assert verdicts == expected


def test_the_evaluator_does_not_support_roi_max_pooling(tmp_path):
    path = tmp_path / "max.onnx"
    anysize.export("lenet", path, head="roi", options=HeadOptions(roi="max"), verify=False)
    report = anysize.validate(path, runtimes="onnx-reference", sizes=[Size(32, 32)])
    assert {cell.verdict for cell in report.cells} == {Verdict.UNSUPPORTED}
    assert "MaxRoiPool" in report.cells[0].message
    assert report.exit_code == 3
