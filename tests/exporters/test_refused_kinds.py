"""What no one graph computes for every size is refused, and the reason says what it is."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from anysize.errors import ExportError
from anysize.exporters import ExportSpec, export_module
from anysize.sizes import Size


class Net(nn.Module):
    """A convolution of stride 2, and what makes an answer of its map."""

    def __init__(self, behind):
        super().__init__()
        self.conv, self.behind = nn.Conv2d(3, 8, 3, 2, 1), behind

    def forward(self, x):
        return self.behind(torch.relu(self.conv(x)))


def loop(x):
    return torch.stack([x[:, :, row].mean(2) for row in range(x.shape[2])]).mean(0)


def rounded(x):
    return x.mean((2, 3)) * math.sin(x.shape[2])


def some_bins(x):
    return F.adaptive_avg_pool2d(x, (x.shape[2] // 2, 1)).mean((2, 3))


REFUSED = {
    "a loop over rows": (loop, r"a loop in its code counts cells"),
    "a number through Python": (rounded, r"Mul has an input .* is not known"),
    "bins that follow the map": (some_bins, r"a number of bins, here 6, that follows the image"),
    "noise": (lambda x: (x + torch.rand_like(x)).mean((2, 3)), r"draws numbers \(RandomUniform"),
    "noise for the batch": (
        lambda x: x.mean((2, 3)) + torch.rand(x.shape[0], 8),
        r"no place in evaluation",
    ),
}


@pytest.mark.parametrize(("behind", "said"), REFUSED.values(), ids=REFUSED)
def test_what_no_graph_says_is_refused(behind, said):
    spec = ExportSpec(name="net", head=None, channels=3, classes=None, size=Size(24, 24))
    with pytest.raises(ExportError, match=said):
        export_module(Net(behind).eval(), spec)
