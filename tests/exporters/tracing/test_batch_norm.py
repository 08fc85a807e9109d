"""Batch normalisation goes into the weights before it, and what cannot go there stays right."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from anysize.errors import ExportError, UsageError
from anysize.exporters import ExportSpec, export_module
from anysize.models import build
from anysize.sizes import Size

ort.set_default_logger_severity(4)
EPS32 = float(np.finfo(np.float32).eps)
IMAGES = np.random.default_rng(5).random((2, 3, 24, 29), dtype=np.float32)


def norm(kind, channels, **options):
    """Make a normalisation whose statistics and parameters are not the neutral ones."""
    layer = kind(channels, **options)
    generator = torch.Generator().manual_seed(channels)
    for tensor in (*layer.parameters(), *(layer.buffers())):
        if tensor.is_floating_point():
            with torch.no_grad():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.25)
    return layer


def exported(module, *, opset=18):
    spec = ExportSpec(name="m", head=None, channels=3, classes=5, size=Size(20, 20), opset=opset)
    return export_module(module.eval(), spec).loaded()


def operators(model):
    return [node.op_type for node in model.graph.node]


def error(model, module, images):
    """Return the graph's error and the module's own, relative to the largest output."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"input": images})
    with torch.inference_mode():
        single = module(torch.from_numpy(images)).double().numpy()
        truth = copy.deepcopy(module).double()(torch.from_numpy(images).double()).numpy()
    assert got.shape == truth.shape
    scale = np.abs(truth).max()
    return np.abs(got - truth).max() / scale, np.abs(single - truth).max() / scale


def check_right(model, module, images=IMAGES):
    onnx.checker.check_model(model, full_check=True)
    got, own = error(model, module, images)
    assert got <= 8 * max(own, 4 * EPS32)


class Head(nn.Module):
    """Global average pooling and a linear layer behind a body."""

    def __init__(self, *body, channels=8, tail=()):
        super().__init__()
        self.body = nn.Sequential(*body)
        self.fc = nn.Sequential(nn.Linear(channels, 5), *tail)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


FOLDED = {
    "convolution": lambda: Head(nn.Conv2d(3, 8, 3), norm(nn.BatchNorm2d, 8)),
    "without a bias": lambda: Head(nn.Conv2d(3, 8, 3, bias=False), norm(nn.BatchNorm2d, 8)),
    "groups": lambda: Head(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=4), norm(nn.BatchNorm2d, 8, eps=0.1)
    ),
    "transposed": lambda: Head(nn.ConvTranspose2d(3, 8, 2), norm(nn.BatchNorm2d, 8)),
    "neutral": lambda: Head(nn.Conv2d(3, 8, 3), norm(nn.BatchNorm2d, 8, affine=False)),
    "linear": lambda: Head(nn.Conv2d(3, 8, 3), tail=[norm(nn.BatchNorm1d, 5)]),
    "linear without a bias": lambda: Head(
        nn.Conv2d(3, 8, 3),
        tail=[nn.Linear(5, 6, bias=False), norm(nn.BatchNorm1d, 6)],
    ),
    "twice": lambda: Head(nn.Conv2d(3, 8, 3), norm(nn.BatchNorm2d, 8), norm(nn.BatchNorm2d, 8)),
}


@pytest.mark.parametrize("case", FOLDED)
def test_a_normalisation_behind_a_layer_is_folded(case):
    module = FOLDED[case]()
    model = exported(module)
    assert "BatchNormalization" not in operators(model)
    check_right(model, module)


class Shared(nn.Module):
    """One convolution, read plainly and through two normalisations."""

    def __init__(self, *, read_twice):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.first, self.second = norm(nn.BatchNorm2d, 8), norm(nn.BatchNorm2d, 8, affine=False)
        self.fc = nn.Linear(8, 5)
        self.read_twice = read_twice

    def forward(self, x):
        if self.read_twice:
            y = self.conv(x)
            z = self.first(y) + y
        else:
            z = self.first(self.conv(x)) + self.second(self.conv(x.flip(1)))
        return self.fc(z.mean((2, 3)))


@pytest.mark.parametrize("opset", [13, 14, 18, 24])
def test_a_normalisation_stays_where_its_input_has_another_reader(opset):
    module = Shared(read_twice=True)
    model = exported(module, opset=opset)
    assert operators(model).count("Conv") == 1
    # Below opset 14 it is written as a factor and an addend.
    assert ("BatchNormalization" in operators(model)) == (opset >= 14)
    check_right(model, module)


def test_two_normalisations_of_one_layers_weights_do_not_meet():
    module = Shared(read_twice=False)
    model = exported(module)
    assert "BatchNormalization" not in operators(model)
    check_right(model, module)


def test_a_normalisation_before_the_convolution_stays():
    module = Head(norm(nn.BatchNorm2d, 3), nn.Conv2d(3, 8, 3, padding=1))
    model = exported(module)
    assert operators(model).count("BatchNormalization") == 1
    check_right(model, module)


def test_folding_rounds_once():
    """The folded weights are the float64 product, rounded."""
    module = Head(nn.Conv2d(3, 8, 3), norm(nn.BatchNorm2d, 8))
    model = exported(module)
    conv, batch_norm = (copy.deepcopy(layer).double() for layer in module.body)
    factor = batch_norm.weight / (batch_norm.running_var + batch_norm.eps).sqrt()
    expected = (conv.weight * factor[:, None, None, None]).float().detach().numpy()
    (weight,) = [t for t in model.graph.initializer if t.name == "body.0.weight"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), expected)


def test_statistics_of_the_batch_are_refused_with_the_layer():
    module = Head(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False))
    with pytest.raises(ExportError, match=r"layer 'body\.1': normalises by the statistics"):
        exported(module)


def test_a_layer_in_training_mode_is_refused_by_name():
    module = Head(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    module.body[1].train()
    spec = ExportSpec(name="m", head=None, channels=3, classes=5, size=Size(20, 20))
    with pytest.raises(UsageError, match=r"m: layer 'body\.1' is in training mode"):
        export_module(module, spec)


def test_dropout_leaves_nothing():
    module = Head(nn.Conv2d(3, 8, 3), nn.Dropout2d(0.5), tail=[nn.Dropout(0.5)])
    names = operators(exported(module))
    assert names[-4:] == ["Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert "Dropout" not in names


@pytest.mark.parametrize(
    ("name", "convolutions", "nodes"), [("resnet18", 20, 49), ("vgg11_bn", 8, 36)]
)
def test_a_network_is_left_with_convolutions(name, convolutions, nodes):
    module = build(name, classes=7, head="gap")
    names = module.output_names
    spec = ExportSpec(
        name=name, head="gap", channels=3, classes=7, size=Size(64, 64), output_names=names
    )
    model = export_module(module, spec).loaded()
    plain = [n.op_type for n in model.graph.node if not n.name.startswith("anysize_")]
    assert plain.count("Conv") == convolutions
    assert "BatchNormalization" not in plain
    assert len(plain) <= nodes
    images = np.random.default_rng(5).random((2, 3, 65, 97), dtype=np.float32)
    got, own = error(model, module, images)
    assert got <= 8 * max(own, 4 * EPS32)
