"""Kinds of networks that people export at one size: rewritten and right at every size, or declined.

Each module is traced at 64×64, where its map is 16×16, and written with those numbers.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from anysize.errors import AnysizeError
from anysize.surgery import rewrite

CHANNELS, CLASSES = 8, 5
SIZES = [(1, 64, 64), (3, 64, 64), (2, 96, 80), (1, 65, 77), (2, 48, 64), (1, 33, 39)]


class Kind(nn.Module):
    """Two strided convolutions; what becomes of their map; scores."""

    features = CHANNELS

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(3, CHANNELS, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1),
        ]
        self.body = nn.Sequential(*layers, nn.ReLU())
        self.fc = nn.Linear(self.features, CLASSES)
        self.make()
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.4)

    def make(self):
        """Add layers."""

    def change(self, x):
        return x

    def vector(self, x):
        return x.mean((2, 3))

    def forward(self, image):
        return self.fc(self.vector(self.change(self.body(image))))


class ChannelAttention(Kind):
    def make(self):
        self.q = nn.Linear(CHANNELS, 3 * CHANNELS)

    def change(self, x):
        n, c, h, w = x.shape
        tokens = self.q(x.flatten(2).transpose(1, 2))
        q, k, v = tokens.reshape(n, h * w, 3, c).permute(2, 0, 3, 1)
        gram = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(1, 2)
        return (gram.softmax(-1) @ v).reshape(n, c, h, w)


class Attention(Kind):
    def change(self, x):
        n, c, h, w = x.shape
        flat = x.view(n, c, h * w)
        return x + (flat @ ((flat.transpose(1, 2) @ flat / 2).softmax(-1))).view(n, c, h, w)


class Pyramid(Kind):
    """A global branch, brought to the map's size again."""

    def make(self):
        self.one, self.two = (nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(2))

    def change(self, x):
        mean = self.two(functional.adaptive_avg_pool2d(x, 1))
        return self.one(x) + functional.interpolate(mean, x.shape[2:], mode="bilinear")


class Shifted(Kind):
    def change(self, x):
        left = functional.pad(x[:, :4, :, 1:], (0, 1))
        return torch.cat([left, functional.pad(x[:, 4:, :, :-1], (1, 0))], 1) + x


class Wavelet(Kind):
    def change(self, x):
        return x[:, :, 0::2, 0::2] + x[:, :, 1::2, 0::2] - x[:, :, 0::2, 1::2]


class Bilinear(Kind):
    features = CHANNELS**2

    def vector(self, x):
        flat = x.flatten(2)
        return (flat @ flat.transpose(1, 2) / flat.shape[2]).flatten(1)


class Columns(Kind):
    features = CLASSES

    def make(self):
        self.rnn = nn.GRU(CHANNELS, CLASSES, batch_first=True)

    def vector(self, x):
        return self.rnn(x.mean(2).transpose(1, 2))[0][:, -1]


class Standardised(Kind):
    def change(self, x):
        return (x - x.mean((2, 3), keepdim=True)) * (x.var((2, 3), keepdim=True) + 1e-5).rsqrt()


class LogMean(Kind):
    def vector(self, x):
        return (torch.logsumexp(3 * x.flatten(2), 2) - math.log(x.shape[2] * x.shape[3])) / 3


class Unsoftened(Attention):
    def change(self, x):
        n, c, h, w = x.shape
        flat = x.view(n, c, h * w)
        return x + (flat @ (flat.transpose(1, 2) @ flat / (h * w))).view(n, c, h, w)


class Rows(Kind):
    def vector(self, x):
        return x.sum(2).amax(2) / x.shape[2]


class Median(Kind):
    def vector(self, x):
        return x.flatten(2).sort(2)[0][:, :, x.shape[2] * x.shape[3] // 2]


class Centre(Kind):
    def forward(self, image):
        down, across = image.shape[2] // 8, image.shape[3] // 8
        return super().forward(image[:, :, down:-down, across : image.shape[3] - across])


class Filled(Kind):
    def forward(self, image):
        height, width = image.shape[2:]
        return super().forward(functional.pad(image, (0, -width % 20, 0, -height % 20)))


class WholeNorm(Kind):
    def change(self, x):
        return functional.layer_norm(x, x.shape[1:])


class Coordinates(Kind):
    def change(self, x):
        rows = torch.linspace(-1, 1, x.shape[2]).view(1, 1, -1, 1)
        return x * rows.expand(x.shape[0], 1, x.shape[2], x.shape[3])


class SoftArgmax(Kind):
    features = 2 * CHANNELS

    def vector(self, x):
        sides = (torch.linspace(0, 1, side) for side in x.shape[2:])
        grid = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1).view(-1, 2)
        return (x.flatten(2).softmax(-1) @ grid).flatten(1)


class Bins(Kind):
    features = 5 * CHANNELS

    def vector(self, x):
        return torch.cat([functional.adaptive_avg_pool2d(x, k).flatten(1) for k in (1, 2)], 1)


RIGHT = [
    ChannelAttention, Attention, Pyramid, Shifted, Wavelet, Bilinear, Columns, Standardised,
    LogMean,
]  # fmt: skip
# What these mean at other sizes only the module can tell → what the message names.
DECLINED = {
    Unsoftened: "Div with 256, which may be the number of cells",
    Rows: "Div with 16, which may be the number of cells",
    Median: "Gather with 128, which may be a place among the 256 cells",
    Centre: "Slice with 8, which may be a part of the 64 cells",
    Filled: "Pad with 16, which may be what 64 cells lack to 80",
    WholeNorm: "which a weight of (8, 16, 16) is not for",
    Coordinates: "(1, 1, 16, 16) do not broadcast",
    SoftArgmax: "input has 1024 features, expected 256",
    Bins: "input has 136 features, expected 40",
}


def exported(network, *, dynamo):
    stream = io.BytesIO()
    logging.disable(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        given = {"dynamo": True, "verbose": False} if dynamo else {"dynamo": False}
        program = torch.onnx.export(
            network, (torch.randn(1, 3, 64, 64),), None if dynamo else stream, **given
        )
    logging.disable(logging.NOTSET)
    return program.model_proto if dynamo else onnx.load_from_string(stream.getvalue())


def answer(session, images):
    try:
        return session.run(None, {session.get_inputs()[0].name: images})[0]
    except Exception:
        return None


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("kind", RIGHT)
def test_a_network_of_this_kind_is_the_module_at_every_size(kind, dynamo):
    network = kind().eval()
    done = rewrite(exported(network, dynamo=dynamo), to="dynamic")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(
        done.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for batch, height, width in SIZES:
        images = torch.randn(batch, 3, height, width)
        try:
            with torch.no_grad():
                want = network(images).numpy()
        except RuntimeError:
            want = None
        got = answer(session, images.numpy())
        assert (want is None) == (got is None), f"{height}x{width}"
        if want is not None:
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("kind", DECLINED)
def test_a_network_of_this_kind_is_declined_by_node(kind):
    with pytest.raises(AnysizeError) as caught:
        rewrite(exported(kind().eval(), dynamo=False), to="dynamic")
    assert DECLINED[kind] in str(caught.value)
    assert "node '" in str(caught.value)
