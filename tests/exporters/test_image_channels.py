"""The first convolution tells the channels of the image, unless something makes more of them."""

from __future__ import annotations

import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import anysize
from anysize.exporters import image_channels
from anysize.sizes import Size


class Rearranged(nn.Module):
    """Two by two cells become channels before the first convolution."""

    def __init__(self, channels):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(4 * channels, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, images):
        cells = F.pixel_unshuffle(images, 2)
        return self.linear(torch.relu(self.conv(cells)).mean((2, 3)))


class Plain(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.linear = nn.Linear(channels, 5)

    def forward(self, images):
        return self.linear(images.mean((2, 3)))


class Any(nn.Module):
    def forward(self, images):
        return images.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize(
    ("module", "guessed", "expected"),
    [
        (Rearranged(3), 12, 3),
        (Rearranged(1), 4, 1),
        (Rearranged(5), 20, 20),  # the guess stays, and the tracing tells what is wrong
        (nn.Conv2d(6, 2, 1), 6, 6),
        (Plain(3), None, 3),
        (Plain(4), None, None),
        (Any(), None, None),
    ],
)
def test_colours_are_tried_where_the_guess_is_refused(module, guessed, expected):
    assert image_channels(module.eval(), guessed, size=Size(16, 16)) == expected


def test_a_network_that_rearranges_its_image_first_is_exported(tmp_path):
    done = anysize.export(Rearranged(3).eval(), tmp_path / "out.onnx", size="16x16")
    assert done.report.ok
    session = ort.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1] == 3
