"""A reference that may round its factors would excuse a runtime that does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anysize.sizes import Size
from anysize.validators.inputs.images import make_images
from anysize.validators.references.eager.exact_products import exact_products
from anysize.validators.references.eager.module import ModuleReference, module_device

IMAGES = {"input": make_images(Size(8, 8), 1, channels=3, seed=0)}


def switches():
    backends = torch.backends
    places = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul)
    return [place.fp32_precision for place in places]


class Watching(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(switches())
        return x.mean((2, 3))


@pytest.fixture
def sloppy():
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


def test_the_reference_rounds_no_factor(sloppy):
    module = Watching().eval()
    ModuleReference(module).run(IMAGES, "float32")
    assert module.seen == [["ieee"] * 3]
    assert switches()[-1] == "bf16"  # what the process had is what it has again


def test_cudnn_would_round_if_it_were_not_told():
    assert torch.backends.cudnn.conv.fp32_precision != "ieee"
    with exact_products():
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"


def test_the_switches_are_put_back_when_the_module_raises(sloppy):
    with pytest.raises(KeyError), exact_products():
        raise KeyError
    assert switches()[-1] == "bf16"


def test_the_device_of_a_reference_is_recorded():
    assert module_device(nn.Linear(2, 2)) == "cpu"
    assert module_device(nn.Linear(2, 2, device="meta")) == "meta"
    assert module_device(nn.ReLU()) == "cpu"
    assert module_device("other.onnx") == "cpu"
