"""What a layer computes from its parameters alone is computed once, in float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import numpy_helper
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from anysize.errors import ExportError
from anysize.exporters import ExportSpec, export_module
from anysize.exporters.tracing.constant_weights import fold_weights
from anysize.sizes import Size

ort.set_default_logger_severity(4)


class StandardisedByBatchNorm(nn.Conv2d):
    """Weight standardisation (Qiao et al., 2019) as batch normalisation of the weight."""

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, padding=1)


class ScaledAndStandardised(nn.Conv2d):
    """The same with a gain for each filter, as normaliser-free networks have it."""

    def __init__(self, *sides):
        super().__init__(*sides)
        self.gain = nn.Parameter(torch.full((sides[1], 1, 1, 1), 0.7))

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        gain = (self.gain * 0.1).view(-1)
        weight = F.batch_norm(flat, None, None, weight=gain, training=True)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias, padding=1)


class StandardisedByHand(nn.Conv2d):
    def forward(self, x):
        deviation, mean = torch.std_mean(self.weight, (1, 2, 3), keepdim=True, correction=0)
        return F.conv2d(x, (self.weight - mean) / (deviation + 1e-5), self.bias, padding=1)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(8))

    def forward(self, x):
        return x * (self.gamma.exp() * 2).view(1, -1, 1, 1)


def network(layer):
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, stride=2)
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return nn.Sequential(first, layer, nn.BatchNorm2d(8), nn.ReLU(), *last).eval()


def exported(layer):
    module = network(layer)
    spec = ExportSpec(name="net", head=None, channels=3, classes=None, size=Size(24, 24))
    return module, export_module(module, spec).loaded()


def layers():
    torch.manual_seed(1)
    return {
        "by batch norm": StandardisedByBatchNorm(8, 8, 3),
        "scaled": ScaledAndStandardised(8, 8, 3),
        "by hand": StandardisedByHand(8, 8, 3),
        "weight norm": weight_norm(nn.Conv2d(8, 8, 3)),
        "spectral norm": spectral_norm(nn.Conv2d(8, 8, 3)),
    }


@pytest.mark.parametrize("layer", layers().values(), ids=layers())
def test_a_weight_is_a_number_in_the_file(layer):
    module, model = exported(layer)
    onnx.checker.check_model(model, full_check=True)
    body = [node.op_type for node in model.graph.node if not node.name.startswith("anysize_")]
    # Batch normalisation was folded into it, too.
    assert body == ["Conv", "Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((2, 3, 31, 40), dtype=np.float32)
    (got,) = session.run(None, {"input": x})
    with torch.inference_mode():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_a_weight_keeps_its_name_and_is_right_to_the_last_bit_of_float32():
    layer = StandardisedByBatchNorm(64, 32, 3)
    module = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)).eval()
    spec = ExportSpec(name="net", head=None, channels=64, classes=None, size=Size(24, 24))
    model = export_module(module, spec).loaded()
    (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == "0.weight"]
    flat = layer.weight.detach().double().reshape(32, -1)
    variance, mean = torch.var_mean(flat, 1, keepdim=True, correction=0)
    expected = ((flat - mean) / (variance + 1e-6).sqrt()).reshape(32, 64, 3, 3)
    # The parameters are float32, epsilon is in the placeholder: one rounding of each.
    np.testing.assert_allclose(numpy_helper.to_array(weight), expected.numpy(), rtol=2.0**-23)


def test_a_scale_is_computed_once():
    _, model = exported(Scaled())
    operators = [node.op_type for node in model.graph.node]
    assert not {"Exp", "Reshape", "Unsqueeze"} & set(operators)
    (scale,) = [tensor for tensor in model.graph.initializer if tensor.name.startswith("1")]
    assert list(scale.dims) == [1, 8, 1, 1]


def test_indices_are_whole_numbers_though_nobody_says_what_they_are():
    numbers = {"start": 0, "limit": 8, "delta": 2}
    given = [ir.val(one, const_value=ir.tensor(n, name=one)) for one, n in numbers.items()]
    cells = ir.val("cells", ir.DataType.FLOAT, ir.Shape([9]))
    ranged = ir.node("Range", given)
    taken = ir.node("Gather", [cells, ranged.outputs[0]])
    graph = ir.Graph(
        [cells],
        taken.outputs,
        nodes=[ranged, taken],
        initializers=given,
        opset_imports={"": 18},
    )
    assert ranged.outputs[0].dtype is None
    assert fold_weights(ir.Model(graph, ir_version=10)) == 1
    (tensor,) = [value.const_value for value in taken.inputs if value.const_value is not None]
    assert tensor.dtype == ir.DataType.INT64
    assert tensor.numpy().tolist() == [0, 2, 4, 6]


def test_statistics_of_the_maps_are_still_refused():
    with pytest.raises(ExportError, match="statistics of the batch"):
        exported(nn.BatchNorm2d(8, track_running_stats=False))
