"""Graphs with regions have a second input with a symbolic count, and compute what PyTorch does."""

from __future__ import annotations

import copy
import importlib.util

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from anysize.exporters import ROIS, ExportSpec, export_module
from anysize.models.backbones.lenet import lenet
from anysize.models.operators import roi_align, roi_max_pool
from anysize.sizes import Size, SizeRange
from anysize.surgery import infer_shapes

ort.set_default_logger_severity(4)
EPS32 = float(np.finfo(np.float32).eps)
KINDS = ("align", "align-old", "max")


class Regions(nn.Module):
    """LeNet's trunk, regions of it, and one linear layer."""

    def __init__(self, kind):
        super().__init__()
        self.features = lenet().trunk["features"]
        self.kind = kind
        self.classifier = nn.Linear(16 * 15, 6)

    def pool(self, x, rois):
        if self.kind == "max":
            return roi_max_pool(x, rois, (5, 3), spatial_scale=0.25)
        return roi_align(
            x,
            rois,
            (5, 3),
            spatial_scale=0.25,
            sampling_ratio=0 if self.kind == "align-old" else 2,
            aligned=self.kind != "align-old",
        )

    def forward(self, x, rois):
        return self.classifier(torch.flatten(self.pool(self.features(x), rois), 1))


def exported(kind, **options):
    torch.manual_seed(3)
    module = Regions(kind).eval()
    spec = ExportSpec(
        name="regions",
        head="roi",
        channels=1,
        classes=6,
        size=Size(32, 32),
        extra_inputs=(ROIS,),
        **options,
    )
    return module, export_module(module, spec)


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    return request.param, *exported(request.param)


def inputs(batch, height, width, count):
    rng = np.random.default_rng(5)
    x = rng.random((batch, 1, height, width), dtype=np.float32)
    corners = np.sort(rng.random((count, 2, 2)) * [[[width, height]]], axis=1).reshape(count, 4)
    index = rng.integers(0, batch, (count, 1))
    return x, np.concatenate([index, corners], 1).astype(np.float32)


def run(model, x, rois):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x, "rois": rois})[0]


def check_within_budget(got, module, x, rois):
    with torch.inference_mode():
        y32 = module(torch.from_numpy(x), torch.from_numpy(rois))
        both = torch.from_numpy(x).double(), torch.from_numpy(rois).double()
        y64 = copy.deepcopy(module).double()(*both)
    assert got.shape == tuple(y64.shape)
    scale = float(y64.abs().max())
    own_error = float((y32.double() - y64).abs().max()) / scale
    assert np.abs(got - y64.numpy()).max() / scale <= 8 * max(own_error, 4 * EPS32)


def axes(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_the_second_input_and_the_logits_have_a_count(case):
    _, _, done = case
    onnx.checker.check_model(done.loaded(), full_check=True)
    image, rois = done.loaded().graph.input
    assert (image.name, axes(image)) == ("input", ["batch", 1, "height", "width"])
    assert (rois.name, axes(rois)) == ("rois", ["count", 5])
    (logits,) = done.loaded().graph.output
    assert axes(logits) == ["count", 6]
    assert done.sizes == SizeRange(Size(16, 16))


def test_a_pooling_of_regions_is_one_node(case):
    kind, _, done = case
    operators = [node.op_type for node in done.loaded().graph.node]
    assert operators.count("MaxRoiPool" if kind == "max" else "RoiAlign") == 1
    assert "Reshape" not in operators
    assert operators[-2:] == ["Flatten", "Gemm"]


@pytest.mark.parametrize(
    ("batch", "size", "count"), [(1, "32x32", 1), (3, "45x61", 7), (2, "16x90", 12)]
)
def test_regions_are_right_at_every_size_and_count(case, batch, size, count):
    _, module, done = case
    at = Size.parse(size)
    x, rois = inputs(batch, at.height, at.width, count)
    check_within_budget(run(done.loaded(), x, rois), module, x, rois)


def test_an_image_below_the_smallest_is_refused(case):
    _, _, done = case
    with pytest.raises(Exception, match="ONNXRuntimeError"):
        run(done.loaded(), *inputs(1, 15, 40, 2))


def test_shifted_regions_are_outside_the_budget(case):
    _, module, done = case
    x, rois = inputs(2, 45, 61, 5)
    got = run(done.loaded(), x, rois + np.float32([0, 2, 2, 2, 2]))
    with pytest.raises(AssertionError):
        check_within_budget(got, module, x, rois)


def test_the_evaluator_has_roi_align_and_lacks_max_roi_pool(case):
    kind, module, done = case
    x, rois = inputs(1, 32, 32, 2)
    if kind == "max":
        with pytest.raises(Exception, match="MaxRoiPool"):
            ReferenceEvaluator(done.loaded())
        return
    got = ReferenceEvaluator(done.loaded()).run(None, {"input": x, "rois": rois})[0]
    check_within_budget(got, module, x, rois)


def test_shapes_can_be_inferred_with_an_unknown_count(case):
    _, _, done = case
    shapes = infer_shapes(done.loaded(), Size(48, 48))
    assert (1, 16, 9, 9) in shapes.values()


@pytest.mark.parametrize("kind", ["align", "max"])
def test_regions_can_be_written_at_opset_17(kind):
    module, done = exported(kind, opset=17)
    x, rois = inputs(2, 40, 33, 5)
    check_within_budget(run(done.loaded(), x, rois), module, x, rois)


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_operators_of_torchvision_are_written_the_same(kind):
    from torchvision import ops

    class Theirs(Regions):
        def pool(self, x, rois):
            if self.kind == "max":
                return ops.roi_pool(x, rois, (5, 3), 0.25)
            ratio, aligned = (-1, False) if kind == "align-old" else (2, True)
            return ops.roi_align(x, rois, (5, 3), 0.25, ratio, aligned)

    module = Theirs(kind).eval()
    spec = ExportSpec("theirs", "roi", 1, 6, Size(32, 32), extra_inputs=(ROIS,))
    x, rois = inputs(2, 45, 61, 9)
    check_within_budget(run(export_module(module, spec).loaded(), x, rois), module, x, rois)
