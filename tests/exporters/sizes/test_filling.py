"""What a module leaves out where its map is full already is told from another path."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from anysize.exporters import ExportSpec, export_module
from anysize.exporters.sizes.filling import unfilled
from anysize.exporters.sizes.probe import Call
from anysize.sizes import Size


def resized(mode, when):
    """Resize to 32×32 where the image asks for it."""
    return lambda x: F.interpolate(x, (32, 32), mode=mode) if when(*x.shape[2:]) else x


def filled(fill):
    def to_eights(x):
        down, across = -x.shape[2] % 8, -x.shape[3] % 8
        return fill(x, down, across) if down or across else x

    return to_eights


def is_small(height, _width):
    return height < 32


def is_other(height, width):
    return (height, width) != (32, 32)


def doubled_if_small(x):
    return F.interpolate(x, scale_factor=2.0, mode="bilinear") if x.shape[2] < 40 else x


def padded_if_small(x):
    return F.pad(x, (0, 0, 0, 32 - x.shape[2])) if x.shape[2] < 32 else x


def of_even_sides(x):
    x = x[:, :, :-1] if x.shape[2] % 2 else x
    return x[:, :, :, 1:] if x.shape[3] % 2 else x


def cut_to_fit(x):
    """Cut what is doubled from half the map, where that is larger, as a decoder does."""
    half = F.max_pool2d(x, 2)
    doubled = half.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return x[:, :, : doubled.shape[2], : doubled.shape[3]] + doubled


def cut_below(x):
    return x[:, :, :36] if x.shape[2] > 36 else x


def halves_at_even_sides(x):
    """Cut the channels in two, whatever the sides, of which an odd one loses a row at its end."""
    h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    return x[:, 1:, :h, :w].repeat(1, 2, 1, 1)[:, :3] + x[:, :1, :h, :w]


def padded(x, down, across):
    return F.pad(x, (0, across, 0, down))


def stretched(x, down, across):
    return F.interpolate(x, (x.shape[2] + down, x.shape[3] + across), mode="bicubic")


CASES = {
    **{
        f"small, {mode}": (resized(mode, is_small), "32x3 and up")
        for mode in ("nearest", "bicubic", "bilinear")
    },
    **{
        f"other, {mode}": (resized(mode, is_other), "1x1 and up")
        for mode in ("nearest", "bicubic", "bilinear")
    },
    "doubled": (doubled_if_small, "40x3 and up"),
    "padded": (padded_if_small, "32x3 and up"),
    "of even sides": (of_even_sides, "4x4 and up, multiples of 2"),
    "halves at even sides": (halves_at_even_sides, "4x4 and up"),
    "cut to fit": (cut_to_fit, "4x4 and up"),
    "cut below": (cut_below, "3x3 and up"),
    "padded to eights": (filled(padded), "1x1 and up"),
    "stretched to eights": (filled(stretched), "1x1 and up"),
}


class Net(nn.Module):
    def __init__(self, before):
        super().__init__()
        self.before = before
        self.conv, self.classifier = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 3)

    def forward(self, x):
        return self.classifier(self.conv(self.before(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize(("before", "sizes"), CASES.values(), ids=CASES)
def test_a_file_takes_the_sizes_at_which_it_is_right(before, sizes, side):
    torch.manual_seed(0)
    module = Net(before).eval()
    if before is doubled_if_small and side == 32:
        sizes = "height 2 to 39, width 2 and up"
    done = export_module(
        module, ExportSpec("net", head=None, channels=3, classes=3, size=Size(side, side))
    )
    assert str(done.sizes) == sizes
    session = onnxruntime.InferenceSession(
        done.loaded().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for size in ((32, 32), (33, 47), (40, 40), (48, 64), (65, 39), (17, 24), (64, 64)):
        if Size(*size) not in done.sizes:
            continue
        x = np.random.default_rng(1).standard_normal((3, 3, *size), dtype=np.float32)
        (got,) = session.run(None, {"input": x})
        with torch.inference_mode():
            expected = module(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=f"{size}")


def fill(given, made):
    return Call("constant_pad_nd", "", given, made)


def core(*shape):
    return Call("relu", "", shape, shape)


LONGER = (
    [core(2, 8, 58, 9), fill((2, 8, 58, 9), (2, 8, 63, 14)), core(2, 8, 63, 14)],
    [core(2, 8, 110, 5), fill((2, 8, 110, 5), (2, 8, 112, 7)), core(2, 8, 112, 7)],
)


@pytest.mark.parametrize(
    ("shape", "operator"),
    [
        ((2, 8, 14, 7), ""),
        ((2, 8, 49, 21), ""),
        ((2, 8, 13, 7), "constant_pad_nd"),
        ((2, 8, 16, 14), "constant_pad_nd"),
        ((2, 8, 13), ""),  # laid out otherwise: not known
        ((2, 9, 13, 7), ""),
    ],
)
def test_a_map_is_left_as_it_is_where_it_is_full(shape, operator):
    assert unfilled(LONGER, [core(*shape), core(*shape)]) == operator


def test_what_fills_where_the_others_do_not_is_found():
    plain = [core(2, 8, 14, 7), core(2, 8, 14, 7)]
    nothing = [core(2, 8, 13, 7), fill((2, 8, 13, 7), (2, 8, 13, 7)), core(2, 8, 13, 7)]
    assert unfilled([plain, plain], LONGER[0]) == "constant_pad_nd"
    assert not unfilled([plain, plain], nothing)
    assert not unfilled([plain, LONGER[0]], LONGER[1])  # traces that are not alike say nothing
