"""The probe tells a module whose trace holds at every size from one that has to be traced twice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from anysize.exporters.sizes.hard_coded import hard_coded_values
from anysize.exporters.sizes.probe import Probe
from anysize.exporters.tracing.trace import trace
from anysize.sizes import Size

FIRST, SECOND = (2, Size(24, 24)), (3, Size(93, 130))


class Between(nn.Module):
    """Something between a convolution and the classifier."""

    def __init__(self, inner):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = inner
        self.register_buffer("table", torch.rand(8, 1, 1))
        self.loose = torch.rand(8, 1, 1)

    def forward(self, x):
        return self.inner(self.conv(x))


SIZE_FREE = {
    "batch norm": nn.BatchNorm2d(8),
    "layer norm": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (8,)),
    "pooling": nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(5)),
    "adaptive maximum": nn.AdaptiveMaxPool2d((3, 2)),
    "activations": lambda x: F.gelu(F.silu(x)) + F.hardswish(x) * F.hardsigmoid(x.tanh()),
    "more activations": lambda x: F.leaky_relu(x) - F.elu(x) + F.softplus(x) / F.relu6(x).exp(),
    "parametric": nn.PReLU(8),
    "arithmetic": lambda x: (x.clamp(0, 1) + 1).sqrt() + x.sigmoid().pow(2).rsqrt() - (-x),
    "halves": lambda x: torch.cat([part.transpose(2, 3) for part in x.chunk(2, 1)], 1),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "classifier": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    "local response": nn.LocalResponseNorm(3),
}
NOT_PROVED = {
    "a constant of the size": lambda x: x / x.shape[2],
    "a window of the size": lambda x: F.avg_pool2d(x, x.shape[2] // 2),
    "a path for odd sizes": lambda x: x.relu() if x.shape[2] % 2 else x.tanh(),
    "a tensor made for the size": lambda x: x + torch.ones(x.shape[2], 1),
    "group norm": nn.GroupNorm(2, 8),
    "interpolation": lambda x: F.interpolate(x, size=(7, 7)),
}


def module(inner):
    return Between(inner).eval()


@pytest.mark.parametrize("inner", SIZE_FREE.values(), ids=SIZE_FREE)
def test_what_the_probe_calls_size_free_is_traced_alike_at_two_sizes(inner):
    network = module(inner)
    assert Probe(network, 3).is_size_free(FIRST, SECOND)
    traces = [
        trace(network, size, batch=batch, channels=3, opset=18, output_names=["y"])
        for batch, size in (FIRST, SECOND)
    ]
    # What a flatten takes is looked for in the finished graph.
    left = [value for value in hard_coded_values(*traces) if value.operator != "Reshape"]
    assert left == []


@pytest.mark.parametrize("inner", NOT_PROVED.values(), ids=NOT_PROVED)
def test_what_may_depend_on_the_size_is_not_called_size_free(inner):
    assert not Probe(module(inner), 3).is_size_free(FIRST, SECOND)


def test_a_tensor_that_is_no_parameter_is_not_trusted():
    network = module(lambda x: x * network.loose)
    assert not Probe(network, 3).is_size_free(FIRST, SECOND)
    network.inner = lambda x: x * network.table
    assert Probe(network, 3).is_size_free(FIRST, SECOND)


def test_another_size_is_different_both_ways():
    probe = Probe(module(nn.Identity()), 3)
    assert probe.other_size(Size(24, 24), Size(93, 130)) == Size(93, 130)


def test_another_size_lies_inside_the_interval_of_an_fc_head():
    head = nn.Sequential(nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8 * 36, 4))
    probe = Probe(module(head), 3)
    assert probe.other_size(Size(24, 25), Size(93, 131)) == Size(27, 27)
    assert probe.other_size(Size(27, 27), Size(96, 133)) == Size(24, 24)
    assert not probe.accepts(Size(28, 24))


def test_a_module_that_looks_at_values_is_run_on_the_cpu():
    network = module(lambda x: x * (2 if float(x.sum()) > 1e9 else 1))
    probe = Probe(network, 3)
    assert probe.other_size(Size(24, 24), Size(93, 130)) == Size(93, 130)
    assert not probe.is_size_free(FIRST, SECOND)


def test_the_module_keeps_its_tensors():
    network = module(nn.BatchNorm2d(8))
    before = {name: id(tensor) for name, tensor in network.named_parameters()}
    Probe(network, 3).is_size_free(FIRST, SECOND)
    assert {name: id(tensor) for name, tensor in network.named_parameters()} == before
    assert all(not tensor.is_meta for tensor in network.state_dict().values())


def test_a_module_that_stands_at_two_places_keeps_its_tensors():
    shared = nn.Conv2d(3, 3, 3, padding=1)
    module = nn.Sequential(shared, nn.Sequential(shared, nn.AdaptiveAvgPool2d(1)))
    module.register_module("again", nn.Sequential(shared, nn.Flatten()))
    assert Probe(module.eval(), 3).accepts(Size(16, 16))
    assert {tensor.device.type for tensor in module.state_dict().values()} == {"cpu"}


def test_a_tensor_that_is_laid_out_as_before_is_no_operator():
    class Pooled(nn.Module):
        def __init__(self, offset):
            super().__init__()
            self.offset = offset

        def forward(self, x):
            rows = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels last
            strides = (rows.shape[1], 1, 1, 1)
            pooled = F.adaptive_avg_pool2d(rows, 1)
            return pooled.as_strided(pooled.shape, strides, self.offset).flatten(1)

    size = Size(8, 8)
    plain, moved = ([call.operator for call in Probe(Pooled(o), 3).calls(size)] for o in (None, 1))
    assert "as_strided" not in plain
    assert "as_strided" in moved


@pytest.mark.parametrize(
    ("layer", "operator"),
    [
        (nn.BatchNorm2d, "native_batch_norm"),
        (lambda n: nn.BatchNorm2d(n).train(), "native_batch_norm"),
        (lambda n: nn.LayerNorm([n, 7, 6]), "native_layer_norm"),
        (lambda n: nn.LayerNorm([n, 7, 6], elementwise_affine=False), "native_layer_norm"),
        (
            lambda n: nn.Sequential(nn.BatchNorm2d(n), nn.Upsample((9, 5), mode="bicubic")),
            "upsample_bicubic2d",
        ),
    ],
)
def test_a_layer_whose_shape_is_known_at_once_has_it_and_refuses_what_it_refuses(layer, operator):
    fits, other = (nn.Sequential(nn.Conv2d(3, 4, 3), layer(n)) for n in (4, 5))
    shape = tuple(fits(torch.zeros(2, 3, 9, 8)).shape)
    assert Probe(fits, 3).output_shapes(2, Size(9, 8)) == (shape,)
    assert [call.operator for call in Probe(fits, 3).calls(Size(9, 8))][-1] == operator
    assert not Probe(other, 3).accepts(Size(9, 8))
