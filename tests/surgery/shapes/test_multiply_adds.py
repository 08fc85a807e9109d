"""Multiply-adds are counted from the shapes, as PyTorch's own counter counts them."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from anysize.sizes import Size
from anysize.surgery import IllegalSizeError, multiply_adds

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SIZE = Size(20, 31)


class Mixed(nn.Module):
    """Every kind of layer that multiplies."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, (3, 5), stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8, padding=2, dilation=2)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.linear = nn.Linear(6, 7)
        self.bilinear = nn.Parameter(torch.randn(7, 9))

    def forward(self, images):
        x = self.up(self.depthwise(self.conv(images)).relu())
        return torch.matmul(self.linear(x.mean((2, 3))), self.bilinear)


def exported(module, tmp_path):
    path = tmp_path / "mixed.onnx"
    torch.onnx.export(module, (torch.zeros(1, 3, 20, 31),), str(path), dynamo=False)
    return onnx.load(path)


@pytest.mark.parametrize("batch", [1, 3])
def test_they_are_half_of_what_pytorch_counts_as_operations(tmp_path, batch):
    module = Mixed().eval()
    counted = multiply_adds(exported(module, tmp_path), SIZE, batch)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(torch.zeros(batch, 3, SIZE.height, SIZE.width))
    assert sum(counted.values()) == counter.get_total_flops() / 2
    assert len(counted) == 5


def products(*nodes, weights):
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["input"], ["p"]), *nodes],
        "products",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor(n, TensorProto.FLOAT, d, [0.0] * (d[0] * d[1])) for n, d in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("turned", [0, 1])
def test_a_product_adds_up_along_the_axis_that_is_summed(turned):
    flat = helper.make_node("Flatten", ["p"], ["f"])
    gemm = helper.make_node("Gemm", ["w", "f"], ["y"], transA=turned, transB=1)
    dims = (3, 5) if turned else (5, 3)
    counted = multiply_adds(products(flat, gemm, weights=[("w", dims)]), SIZE, 2)
    assert counted == {"y": 5 * 3 * 2}


def test_a_size_that_the_graph_does_not_take_has_no_count(tmp_path):
    with pytest.raises(IllegalSizeError):
        multiply_adds(exported(nn.Conv2d(3, 4, 7).eval(), tmp_path), Size(6, 9))
