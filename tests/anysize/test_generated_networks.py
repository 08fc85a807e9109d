"""Generated networks that count cells, pad, cut and join: what is written is what PyTorch computes.

A file may be declined. One that is written never differs from eager, takes no size that eager
refuses, and refuses none that it takes, at any side over more than two strides.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import anysize
from anysize.errors import AnysizeError
from anysize.sizes import Size
from anysize.surgery import rewrite

# Of the largest score. Where a deviation cancels, rounding comes to 3e-5; the least fault, one cell
# of a thousand miscounted, to 1e-3.
TOLERANCE = 1e-4
TRAINED = Size(24, 32)


class SamePadded(nn.Conv2d):
    """TensorFlow's padding: by what the image lacks."""

    def forward(self, x):
        lacks = [
            max((math.ceil(n / s) - 1) * s + k - n, 0)
            for n, s, k in zip(x.shape[2:], self.stride, self.kernel_size, strict=True)
        ]
        pads = [p for lack in reversed(lacks) for p in (lack // 2, lack - lack // 2)]
        return functional.conv2d(functional.pad(x, pads), self.weight, self.bias, self.stride)


class Skip(nn.Module):
    """A map joined with one that went down and up again."""

    def __init__(self, channels):
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, x):
        return x + functional.interpolate(self.down(x), scale_factor=2)


class Branches(nn.Module):
    """A pooling that rounds up beside a convolution that rounds down."""

    def __init__(self, channels):
        super().__init__()
        self.pool, self.conv = (
            nn.MaxPool2d(2, 2, ceil_mode=True),
            nn.Conv2d(channels, channels, 2, 2),
        )

    def forward(self, x):
        return self.pool(x) + self.conv(x)


class Pyramid(nn.Module):
    """Three maps, each half as large, brought together at the size of the largest."""

    def __init__(self, channels):
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(2))
        self.side = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(2))

    def forward(self, x):
        maps = [x]
        for down in self.down:
            maps.append(torch.relu(down(maps[-1])))
        above = maps.pop()
        for fmap, side in zip(reversed(maps), self.side, strict=True):
            above = side(fmap) + functional.interpolate(above, fmap.shape[2:], mode="nearest")
        return above


class Filled(nn.Module):
    """A map filled up to what its windows divide, and cut into them."""

    def forward(self, x):
        height, width = x.shape[2:]
        return functional.avg_pool2d(functional.pad(x, (0, -width % 5, 0, -height % 5)), 5, 2)


class Centre(nn.Module):
    """The inner part of a map."""

    def forward(self, x):
        down, across = x.shape[2] // 8, x.shape[3] // 8
        return x[:, :, down : x.shape[2] - down, across : x.shape[3] - across]


LAYERS = {
    "filled": lambda _: Filled(),
    "pyramid": Pyramid,
    "centre": lambda _: Centre(),
    "stride": lambda c: nn.Conv2d(c, c, 3, 2, 1),
    "unpadded": lambda c: nn.Conv2d(c, c, 3),
    "same": lambda c: SamePadded(c, c, 3, 2),
    "pool": lambda _: nn.MaxPool2d(3, 2, ceil_mode=True),
    "skip": Skip,
    "branches": Branches,
    "depth": lambda c: nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * c, c, 1)),
}


def cells(x):
    return x.shape[2] * x.shape[3]


def weighed(x):
    """Attention without a Softmax, divided by how many it sums."""
    flat = x.flatten(2)
    return ((flat.transpose(1, 2) @ flat / cells(x)) @ flat.transpose(1, 2)).mean(1)


POOLS = {
    "weighed": weighed,
    "rows": lambda x: x.sum(2).amax(2) / x.shape[2],
    "median": lambda x: x.flatten(2).sort(2)[0][:, :, cells(x) // 2],
    "mean": lambda x: x.mean((2, 3)),
    "sum over cells": lambda x: x.sum((2, 3)) / cells(x),
    "sum less one": lambda x: x.sum((2, 3)) / (cells(x) - 1),
    "log": lambda x: torch.logsumexp(x.flatten(2), 2) - math.log(cells(x)),
    "root": lambda x: x.flatten(2).norm(dim=2) / math.sqrt(cells(x)),
    "deviation": lambda x: x.flatten(2).std(2),
    "largest": lambda x: x.flatten(2).topk(3, 2)[0].mean(2),
    "half": lambda x: x.flatten(2).topk(cells(x) // 2, 2)[0].mean(2),
    "corner": lambda x: x[:, :, :2, :2].mean((2, 3)),
    "inside": lambda x: x[:, :, 1:-1, 1:].mean((2, 3)),
    "attention": lambda x: (x.flatten(2) * x.flatten(2).mean(1, keepdim=True).softmax(2)).sum(2),
    "columns": lambda x: x.mean(2).amax(2),
    "maximum": lambda x: torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1)[:, ::2],
}


@dataclass(frozen=True)
class Spec:
    layers: tuple[str, ...]
    pool: str
    is_last: bool = False


class Network(nn.Module):
    def __init__(self, spec):
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.Sequential(*(LAYERS[name](6) for name in spec.layers))
        self.pool, self.scores = POOLS[spec.pool], nn.Linear(6, 4)
        self.is_last = spec.is_last

    def forward(self, image):
        if self.is_last:
            image = image.permute(0, 3, 1, 2)
        return self.scores(self.pool(torch.relu(self.body(torch.relu(self.first(image))))))


SPECS = st.builds(
    Spec,
    layers=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=3).map(tuple),
    pool=st.sampled_from(sorted(POOLS)),
    is_last=st.booleans(),
)


def shaped(network, batch, height, width):
    return (batch, height, width, 3) if network.is_last else (batch, 3, height, width)


def eager(network, images):
    """What the network answers; None where it refuses, or answers with nothing but NaN."""
    try:
        with torch.no_grad():
            answer = network(torch.from_numpy(images)).numpy()
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):
        return None
    return answer if np.isfinite(answer).all() else None


def assert_same_everywhere(network, data):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name, draw = session.get_inputs()[0].name, np.random.default_rng(0)
    height, width = TRAINED.height, TRAINED.width
    sides = [(height + more, width) for more in range(18)]
    sides += [(height, width + more) for more in range(18)]
    sides += [(height + more, width + 2 * more + 1) for more in range(0, 18, 5)]
    compared = 0
    for place, (down, across) in enumerate(sides):
        shape = shaped(network, 1 + place % 3, down, across)
        images = draw.standard_normal(shape).astype(np.float32)
        want = eager(network, images)
        try:
            got = session.run(None, {name: images})[0]
        except Exception:
            got = None
        assert (want is None) == (got is None), f"{down}x{across}: eager {want}, the file {got}"
        if want is not None:
            scale = np.abs(want).max()
            np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * scale)
            compared += 1
    assert compared > 1
    return compared


def exported(network):
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = (torch.zeros(shaped(network, 1, TRAINED.height, TRAINED.width)),)
        torch.onnx.export(network, images, stream, dynamo=False)
    return onnx.load_from_string(stream.getvalue())


def is_rewritten(spec):
    """Rewrite what TorchScript writes of a network, and hold it against the network."""
    network = Network(spec).eval()
    images = np.zeros(shaped(network, 1, TRAINED.height, TRAINED.width), np.float32)
    if eager(network, images) is None:
        return False
    try:
        done = rewrite(exported(network), to="dynamic")
    except AnysizeError:
        return False
    assert_same_everywhere(network, done.model.SerializeToString())
    return True


def is_exported(spec, path):
    spec = replace(spec, is_last=False)
    network = Network(spec).eval()
    images = np.zeros((1, 3, TRAINED.height, TRAINED.width), np.float32)
    if eager(network, images) is None:
        return False
    try:
        anysize.export(network, path, size=str(TRAINED), verify=False)
    except AnysizeError:
        return False
    assert_same_everywhere(network, str(path))
    return True


@settings(max_examples=20, deadline=None)
@given(SPECS)
def test_a_rewritten_network_is_the_network(spec):
    is_rewritten(spec)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(SPECS)
def test_many_rewritten_networks_are_the_networks(spec):
    is_rewritten(spec)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(SPECS)
def test_an_exported_network_is_the_network(tmp_path_factory, spec):
    is_exported(spec, tmp_path_factory.mktemp("exported") / "any.onnx")


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("pool", sorted(POOLS))
def test_each_way_to_pool_is_right_or_declined(pool, is_last):
    written = is_rewritten(Spec(("stride", "unpadded"), pool, is_last))
    # What these mean at other sizes only the module can tell.
    known = {"sum less one", "half", "inside", "largest", "corner", "root"}
    known |= {"weighed", "rows", "median"}
    assert written or pool in known


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_each_layer_is_right_or_declined(layer, is_last):
    assert is_rewritten(Spec((layer,), "mean", is_last)) or layer in ("same", "filled", "centre")


@pytest.mark.parametrize("layers", [("same", "branches"), ("same", "branches", "branches")])
def test_pads_of_a_network_that_takes_some_remainders_follow_the_image(tmp_path, layers):
    """What is padded is the same at all multiples of 8, and another at 1 less."""
    assert is_exported(Spec(layers, "mean"), tmp_path / "any.onnx")
