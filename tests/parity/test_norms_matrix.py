"""A converted head that works on all features of an image together, on one runtime."""

from __future__ import annotations

import pytest
import torch
from exported import exported
from findings import complaints
from torch import nn
from torch.nn import functional

import anysize
from anysize.sizes import Size
from anysize.validators import Verdict

SIDE = 16


class Net(nn.Module):
    """A convolution, a fully connected layer, and what a subclass puts behind it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
        self.embedding = nn.Linear(8 * 8 * 8, 16)
        self.eval()

    def forward(self, x):
        return self.finish(self.embedding(self.features(x).flatten(1)))


class Embedding(Net):
    """Ends as networks for faces do: in a vector of length 1."""

    def finish(self, x):
        return functional.normalize(x)


class Normalised(Net):
    """A LayerNorm between two fully connected layers."""

    def __init__(self):
        super().__init__()
        self.norm, self.classes = nn.LayerNorm(16), nn.Linear(16, 5)
        self.eval()

    def finish(self, x):
        return self.classes(functional.relu(self.norm(x)))


class MaxFeatureMap(Net):
    """The larger of two halves of the features (LightCNN, Wu et al., 2018), then a classifier."""

    def __init__(self):
        super().__init__()
        self.classes = nn.Linear(8, 5)
        self.eval()

    def finish(self, x):
        return self.classes(torch.maximum(*x.chunk(2, dim=1)))


@pytest.mark.parametrize("network", [Embedding, Normalised, MaxFeatureMap])
def test_a_converted_head_equals_the_eager_layers_on_every_window(runtime, recorded, network):
    name, module = network.__name__.lower(), network()
    path = exported(name, lambda: module, head="fcn", size=Size(SIDE, SIDE))
    report = anysize.validate(path, module, runtimes=runtime)
    recorded(report, f"{name}/fcn")
    found = complaints(report, name, "fcn")
    assert not found, "\n".join(found)
    assert Verdict.PASS in {cell.verdict for cell in report.cells}
