"""Kinds of networks whose trace holds numbers of its image: each is right at other sizes, too."""

from __future__ import annotations

import functools
import math
from unittest import mock

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import anysize
from anysize.exporters import ExportSpec, export_module, graph
from anysize.sizes import Size

ort.set_default_logger_severity(4)
CASES = ((1, 24, 24), (2, 33, 51), (3, 24, 24), (1, 66, 41), (3, 40, 72), (3, 33, 41))


class Net(nn.Module):
    """A convolution of stride 2, what is between, and a linear layer over the last axis."""

    def __init__(self, between, layers=(), features=8):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.layers = nn.ModuleDict(dict(layers))
        self.between = between
        self.fc = nn.Linear(features, 5)

    def forward(self, x):
        return self.fc(self.between(torch.relu(self.conv(x)), **self.layers))


def recurrent(x, rnn):
    return rnn(x.mean(2).transpose(1, 2))[0].mean(1)


def columns(x, down, rnn):
    """Run down the columns of a map, and of half of it: twice as many of both, or one more."""
    for layer in (nn.Identity(), down):
        x = layer(x).permute(0, 3, 2, 1)
        n, w, h, c = x.shape
        x = rnn(x.reshape(-1, h, c))[0].reshape(n, w, h, -1).permute(0, 3, 2, 1)
    return x.mean((2, 3))


def last_state(x, rnn):
    _, (hidden, _) = rnn(x.mean(3).permute(2, 0, 1))
    return hidden[-1]


def tokens(x):
    return x.flatten(2).transpose(1, 2)


def with_token(x, attention, token):
    cells = tokens(x)
    cells = torch.cat([token(cells[:, :1] * 0), cells], 1)
    return attention(cells, cells, cells, need_weights=False)[0][:, 0]


def over_cells(x, attention):
    cells = tokens(x)
    return attention(cells, cells, cells)[0].mean(1)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 8, 6, 6))

    def forward(self, x, mode="bilinear"):
        return x + F.interpolate(self.table, size=x.shape[2:], mode=mode, align_corners=False)


def coordinates(x):
    n, _, h, w = x.shape
    down = torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(n, 1, h, w)
    across = torch.linspace(0, 1, w, dtype=x.dtype, device=x.device).view(1, 1, 1, w)
    return torch.cat([x, down, across.expand(n, 1, h, w)], 1).relu().mean((2, 3))


def rows(x):
    places = torch.arange(x.shape[2], dtype=torch.float32) / x.shape[2]
    return (x * places.view(-1, 1)).mean((2, 3))


def grid(x):
    h, w = x.shape[2:]
    down, across = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return (x * torch.sin(down + 2 * across)).mean((2, 3))


def rotary(x):
    """Turn pairs of channels by angles of the cells' places between the borders."""
    places = [torch.arange(0.5, side, dtype=torch.float32) / float(side) for side in x.shape[2:]]
    cells = 2.0 * torch.stack(torch.meshgrid(places, indexing="ij"), -1).flatten(0, 1) - 1.0
    angles = (cells[:, :, None] * torch.tensor([1.0, 3.0])).flatten(1)
    left, right = tokens(x).chunk(2, -1)
    sin, cos = angles.sin(), angles.cos()
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1).mean(1)


def waves(x):
    n, _, h, w = x.shape
    down = torch.arange(1, h + 1, dtype=torch.float32).unsqueeze(1).repeat(1, 1, w)
    across = torch.arange(1, w + 1, dtype=torch.float32).repeat(1, h, 1)
    down, across = down / (down[:, -1:, :] + 1e-6), across / (across[:, :, -1:] + 1e-6)
    return (x * torch.stack([down.sin(), across.cos()], 1).repeat(n, 4, 1, 1)).mean((2, 3))


def counted(x):
    ones = torch.ones(x.shape[0], *x.shape[2:])
    rows, columns = ones.cumsum(1), ones.cumsum(2)
    return (x * (rows / rows[:, -1:, :] - columns / columns[:, :, -1:])[:, None]).mean((2, 3))


def relative(x):
    h, w = x.shape[2:]
    distances = torch.arange(h)[:, None] - torch.arange(w)[None] + (w - 1)
    return (x * torch.sin(distances.float())).mean((2, 3))


class RelativeToFewer(nn.Module):
    """Attend to a map of a quarter of the rows; the distance is counted in cells of the larger."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(400, 8))

    def forward(self, x):
        queries, keys = x.mean(3).mT, F.avg_pool2d(x, (4, 1), ceil_mode=True).mean(3).mT
        many, few = queries.shape[1], keys.shape[1]
        apart, further = max(few / many, 1.0), max(many / few, 1.0)
        distances = torch.arange(many)[:, None] * apart - torch.arange(few)[None] * further
        biases = self.table[(distances + (few - 1) * further).long()]
        scores = queries @ keys.mT + torch.einsum("nqc,qkc->nqk", queries, biases)
        return (scores.softmax(-1) @ keys).mean(1)


def written_into(x):
    x = x.clone()
    x[:, :, 1:, 1:] = x[:, :, 1:, 1:] * 2
    return x.mean((2, 3))


class TiledTable(nn.Module):
    """Positions within a window, repeated over the map, and of the map, resized to it."""

    def __init__(self):
        super().__init__()
        self.window = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.table = nn.Parameter(torch.randn(1, 8, 7, 7))

    def forward(self, x):
        x = F.pixel_shuffle(x.repeat(1, 4, 1, 1).repeat(1, 4, 1, 1), 4)
        h, w = x.shape[2:]
        table = F.interpolate(self.table, size=(h, w), mode="bicubic")
        return x + table + self.window.tile((h // 4, w // 4))


def by_size(x):
    n, c = x.size(0), x.size(1)
    cells = x.size(2) * x.size(3)
    return x.view(n, c, cells).sum(2) / cells


def half(x):
    return x[:, :, : x.shape[2] // 2].mean((2, 3)) - x[:, :, :, x.shape[3] // 2 :].mean((2, 3))


def centre(x):
    return x[:, :, x.shape[2] // 2, x.shape[3] // 2]


def unshuffled(x, conv):
    h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    return conv(F.pixel_unshuffle(x[:, :, :h, :w], 2)).mean((2, 3))


def skip(x, down, up):
    low = torch.relu(down(x))
    return up(torch.cat([x, F.interpolate(low, size=x.shape[2:])], 1)).relu().mean((2, 3))


def scaled(x, down):
    low = F.interpolate(down(x), scale_factor=2.0, mode="nearest")
    return (x[:, :, : low.shape[2], : low.shape[3]] + low[:, :, : x.shape[2], : x.shape[3]]).mean(
        (2, 3)
    )


def fused(x, a, b, c):
    high, middle, low = x, torch.relu(a(x)), torch.relu(b(torch.relu(a(x))))
    size = high.shape[-2:]
    up = [
        F.interpolate(one, size=size, mode="bilinear", align_corners=False) for one in (middle, low)
    ]
    return torch.relu(c(high + up[0] + up[1])).mean((2, 3))


def split_sides(x):
    h, w = x.shape[2:]
    rows, columns = torch.split(torch.cat([x.mean(3), x.mean(2)], 2), [h, w], 2)
    return (x * rows.sigmoid()[..., None] * columns.sigmoid()[:, :, None]).mean((2, 3))


def logarithm(x):
    return torch.logsumexp(x.flatten(2), 2) - math.log(x.shape[2] * x.shape[3])


def root(x):
    cells = tokens(x)
    return (torch.bmm(cells.transpose(1, 2), cells) / math.sqrt(cells.shape[1])).mean(2)


def everything(x):
    """What only a symbolic trace takes, and what it fails on, in one."""
    x = F.avg_pool2d(x * torch.linspace(0, 1, x.shape[3]), x.shape[2:])
    return x.flatten(1)


def maxima(x):
    x = x * torch.linspace(0, 1, x.shape[3])
    return F.max_pool2d(x, (x.size(2), x.size(3))).flatten(1)


def windows(x, layer):
    """Attend within windows of 4×4 cells, the map padded to a multiple of them."""
    x = F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))
    n, c, h, w = x.shape
    cells = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    cells = layer(cells).view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4)
    return cells.reshape(n, c, h, w).relu().mean((2, 3))


def windows_where_needed(x, layer):
    """Attend within windows of cells whose channels are last, padded and cropped where needed."""
    x = x.permute(0, 2, 3, 1)
    n, h, w, c = x.shape
    down, across = -h % 3, -w % 3
    if down or across:
        x = F.pad(x, (0, 0, 0, across, 0, down))
    rows, columns = x.shape[1] // 3, x.shape[2] // 3
    cells = x.view(n, rows, 3, columns, 3, c).transpose(2, 3).reshape(n * rows * columns, 9, c)
    cells = layer(cells) + cells.mean(1, keepdim=True)
    x = cells.view(n, rows, columns, 3, 3, c).transpose(2, 3).reshape(n, 3 * rows, 3 * columns, c)
    if down or across:
        x = x[:, :h, :w].contiguous()
    return x.relu().mean((1, 2))


def patches(x, layer):
    """Attend over cells of the same place in patches of 2×2; the map is resized to be even."""
    n, c, h, w = x.shape
    height, width = math.ceil(h / 2) * 2, math.ceil(w / 2) * 2
    is_odd = (height, width) != (h, w)
    if is_odd:
        x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
    rows, columns = height // 2, width // 2
    x = x.reshape(n * c * rows, 2, columns, 2).transpose(1, 2)
    x = x.reshape(n, c, rows * columns, 4).transpose(1, 3).reshape(n * 4, rows * columns, c)
    x = (layer(x) + x.mean(1, keepdim=True)).view(n, 4, rows * columns, c).transpose(1, 3)
    x = x.reshape(n * c * rows, columns, 2, 2).transpose(1, 2).reshape(n, c, height, width)
    if is_odd:
        x = F.interpolate(x, size=(h, w), mode="bilinear", align_corners=False)
    return x.relu().mean((2, 3))


def five_axes(x):
    cells = F.adaptive_avg_pool2d(x, 4).view(x.shape[0], 2, 4, 2, 8).transpose(3, 4)
    return F.scaled_dot_product_attention(cells, cells, cells).flatten(1)


def queried(x, attention):
    cells = tokens(x)
    return attention(cells.mean(1, keepdim=True), cells, cells, need_weights=False)[0][:, 0]


class Queries(nn.Module):
    """One learned query for each class; a head is an image of its own."""

    def __init__(self):
        super().__init__()
        self.queries, self.attention = nn.Embedding(5, 8), nn.MultiheadAttention(8, 2)
        self.classes = nn.Parameter(torch.randn(5, 8))

    def forward(self, x):
        cells = x.flatten(2).permute(2, 0, 1)
        queries = self.queries.weight.unsqueeze(1).expand(-1, x.shape[0], -1)
        found = self.attention(queries, cells, cells, need_weights=False)[0]
        return torch.einsum("kbc,kc->bk", found + queries, self.classes).repeat(1, 2)[:, :8]


def warped(x, place, align_corners=False):
    theta = place(x.mean((2, 3))).view(-1, 2, 3) + torch.eye(2, 3)
    cells = F.affine_grid(theta, x.shape, align_corners=align_corners)
    return F.grid_sample(x, cells, align_corners=align_corners).mean((2, 3))


warped_to_corners = functools.partial(warped, align_corners=True)


def nearest(x):
    """Take the largest of each cell's neighbours, which are few where there are few cells."""
    cells = tokens(x)
    near = torch.cdist(cells, cells[:, :8]).topk(2, largest=False)[1]
    chosen = cells.gather(1, near.flatten(1).unsqueeze(-1).expand(-1, -1, 8))
    return chosen.unflatten(1, (-1, 2)).amax(2).mean(1)


def shifted(x):
    """Move a part of the channels up, the others down, into a map of zeros."""
    moved = torch.zeros_like(x)
    moved[:, :3, :-1] = x[:, :3, 1:]
    moved[:, 3:, 1:] = x[:, 3:, :-1]
    return (x * moved).mean((2, 3))


def squashed(x):
    """Scale vectors by their length, which an epsilon keeps from being nothing."""
    vectors = tokens(x).relu()
    length = (vectors**2).sum(-1, keepdim=True)
    return (vectors * length / (1 + length) / (length + 1e-8).sqrt()).mean(1)


def gathered(x):
    """Sum what is left of cells beside two centres; at one cell, PyTorch multiplies numbers."""
    shares, cells = x[:, :2].flatten(2).softmax(1), tokens(x)
    found = torch.einsum("bkn,bnc->bkc", shares, cells) - shares.sum(2)[..., None]
    return F.normalize(found, dim=2).sum(1)


def squeezed(x):
    return torch.squeeze(x.mean(3, keepdim=True).mean(2).squeeze((1, -1)), 1)


def unfolded(x):
    return F.unfold(x, 3, padding=1, stride=2).view(x.shape[0], 8, 9, -1).amax(2).mean(2)


def folded(x):
    columns = F.unfold(x, 3, padding=1, stride=2)
    return F.fold(columns.relu(), x.shape[2:], 3, padding=1, stride=2).mean((2, 3))


def overlapping(x):
    return x.unfold(2, 5, 2).unfold(3, 3, 2).amax((4, 5)).mean((2, 3))


def conv(*args, **kwargs):
    return nn.Conv2d(*args, **kwargs)


KINDS = {
    "gru": (recurrent, {"rnn": nn.GRU(8, 8, batch_first=True)}),
    "lstm": (recurrent, {"rnn": nn.LSTM(8, 8, batch_first=True)}),
    "rnn": (recurrent, {"rnn": nn.RNN(8, 8, batch_first=True)}),
    "rnn of rectifiers": (
        lambda x, rnn: rnn(x.mean(3).permute(2, 0, 1))[1].transpose(0, 1).flatten(1),
        {"rnn": nn.RNN(8, 4, 2, nonlinearity="relu", bias=False, bidirectional=True)},
        16,
    ),
    "columns": (columns, {"down": nn.Conv2d(8, 8, 2, 2), "rnn": nn.GRU(8, 8, batch_first=True)}),
    "two layers": (recurrent, {"rnn": nn.GRU(8, 8, num_layers=2, batch_first=True)}),
    "bidirectional": (recurrent, {"rnn": nn.LSTM(8, 8, batch_first=True, bidirectional=True)}, 16),
    "last state": (last_state, {"rnn": nn.LSTM(8, 8)}),
    "attention": (over_cells, {"attention": nn.MultiheadAttention(8, 2, batch_first=True)}),
    "class token": (
        with_token,
        {"attention": nn.MultiheadAttention(8, 2, batch_first=True), "token": nn.Linear(8, 8)},
    ),
    "resized positions": (lambda x, p: p(x).relu().mean((2, 3)), {"p": Positions()}),
    "coordinates": (coordinates, {}, 10),
    "rows": (rows, {}),
    "overlapping windows": (overlapping, {}),
    "grid": (grid, {}),
    "rotary": (rotary, {}),
    "waves": (waves, {}),
    "counted": (counted, {}),
    "relative": (relative, {}),
    "relative to fewer": (lambda x, a: a(x), {"a": RelativeToFewer()}),
    "written into": (written_into, {}),
    "tiled table": (lambda x, p: p(x).relu().mean((2, 3)), {"p": TiledTable()}),
    "variance": (lambda x: x.var((2, 3)), {}),
    "deviation": (lambda x: torch.std(x.flatten(2), 2, unbiased=False), {}),
    "by size": (by_size, {}),
    "half": (half, {}),
    "centre": (centre, {}),
    "unshuffled": (unshuffled, {"conv": conv(32, 8, 3, padding=1)}),
    "skip": (skip, {"down": conv(8, 8, 3, 2, 1), "up": conv(16, 8, 3, padding=1)}),
    "scaled": (scaled, {"down": conv(8, 8, 3, 2, 1)}),
    "fused": (
        fused,
        {"a": conv(8, 8, 3, 2, 1), "b": conv(8, 8, 3, 2, 1), "c": conv(8, 8, 1)},
    ),
    "split sides": (split_sides, {}),
    "logarithm": (logarithm, {}),
    "root": (root, {}),
    "windows": (windows, {"layer": nn.Linear(8, 8)}),
    "windows where needed": (windows_where_needed, {"layer": nn.Linear(8, 8)}),
    "patches": (patches, {"layer": nn.Linear(8, 8)}),
    "attention over five axes": (five_axes, {}, 128),
    "queried": (queried, {"attention": nn.MultiheadAttention(8, 2, batch_first=True)}),
    "learned queries": (lambda x, q: q(x), {"q": Queries()}),
    "warped": (warped, {"place": nn.Linear(8, 6)}),
    "warped to corners": (warped_to_corners, {"place": nn.Linear(8, 6)}),
    "nearest": (nearest, {}),
    "shifted": (shifted, {}),
    "squashed": (squashed, {}),
    "gathered": (gathered, {}),
    "squeezed": (squeezed, {}),
    "in float64": (lambda x: x.double().mean((2, 3)).float(), {}),
    "unfolded": (unfolded, {}),
    "folded": (folded, {}),
    "view": (lambda x: F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1), {}),
    "view of cells": (lambda x: x.view(x.size(0), 8, -1).amax(2), {}),
    "cells first": (lambda x: tokens(x).reshape(-1, 8).view(x.shape[0], -1, 8).mean(1), {}),
    "windows and symbols": (everything, {}),
    "maxima and symbols": (maxima, {}),
}


@functools.cache
def exported(kind):
    """Export a network, and say whether that took a trace with symbols."""
    between, layers, *features = KINDS[kind]
    torch.manual_seed(0)
    module = Net(between, layers, *features).eval()
    spec = ExportSpec(name="net", head=None, channels=3, classes=None, size=Size(24, 24))
    with mock.patch.object(graph, "_symbolic", wraps=graph._symbolic) as symbolic:
        return module, export_module(module, spec), symbolic.called


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_this_kind_is_right_at_other_sizes_and_batches(kind):
    module, done, _ = exported(kind)
    session = ort.InferenceSession(
        done.loaded().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for batch, height, width in CASES:
        x = np.random.default_rng(1).standard_normal((batch, 3, height, width), dtype=np.float32)
        (got,) = session.run(None, {"input": x})
        with torch.inference_mode():
            expected = module(torch.from_numpy(x)).numpy()
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


def test_what_two_static_traces_tell_is_not_traced_with_symbols():
    """The state of a recurrent layer, a number of cells, and tables of positions."""
    kinds = (
        "lstm",
        "class token",
        "variance",
        "by size",
        "split sides",
        "windows",
        "windows where needed",
        "patches",
        "folded",
        "coordinates",
        "centre",
        "rotary",
        "waves",
        "counted",
        "relative",
        "relative to fewer",
        "tiled table",
        "learned queries",
        "warped",
        "warped to corners",
    )
    for kind in kinds:
        _, done, is_symbolic = exported(kind)
        assert done.is_computed
        assert not is_symbolic
    assert exported("half")[2]


def test_a_file_with_computed_numbers_is_verified_at_three_batches(tmp_path):

    for between, batches in ((by_size, {1, 2, 3}), (lambda x: x.mean((2, 3)), {1, 2})):
        module = Net(between).eval()
        done = anysize.export(module, tmp_path / "out.onnx", size="24x24")
        assert {cell.batch for cell in done.report.cells} == batches
        assert len({cell.size for cell in done.report.cells} - {Size(24, 24), Size(93, 131)}) > 4
