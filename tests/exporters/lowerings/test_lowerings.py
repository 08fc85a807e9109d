"""The lowerings compute what PyTorch computes, at every size, from a trace at one size."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from anysize.exporters.lowerings import lower_placeholders
from anysize.exporters.tracing.placeholder import DOMAIN
from anysize.exporters.tracing.trace import trace
from anysize.sizes import Size
from anysize.surgery import free_axes

EPS32 = float(np.finfo(np.float32).eps)
SIDES = st.integers(1, 40)


class MaxPyramid(nn.Module):
    def __init__(self, levels):
        super().__init__()
        self.levels = levels

    def forward(self, x):
        return tuple(F.adaptive_max_pool2d(x, level) for level in self.levels)


class Resize(nn.Module):
    def __init__(self, height, width):
        super().__init__()
        self.size = (height, width)

    def forward(self, x):
        return F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)


def lowered(module, *, outputs=1, traced_at="14x21"):
    """Trace a module at one size, lower it, and free its axes."""
    names = [f"output_{i}" for i in range(outputs)]
    traced = trace(
        module.eval(),
        Size.parse(traced_at),
        batch=2,
        channels=3,
        opset=18,
        output_names=names,
    )
    model = ir.to_proto(traced.model)
    lower_placeholders(model)
    return free_axes(model, batch=False)


def run(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})


def images(height, width, seed=0):
    return np.random.default_rng(seed).standard_normal((2, 3, height, width), dtype=np.float32)


AVERAGE = {bins: lowered(nn.AdaptiveAvgPool2d(bins)) for bins in ((7, 7), (6, 6), (3, 5), (1, 4))}
PYRAMIDS = {
    levels: lowered(MaxPyramid(levels), outputs=len(levels))
    for levels in ((4, 2, 1), (6, 3, 2, 1), (5, 3), (1,), ((2, 3), (4, 6)), (2, 2))
}
RESIZES = {size: lowered(Resize(*size)) for size in ((14, 21), (24, 24), (7, 31), (1, 1))}


@pytest.mark.parametrize("model", [*AVERAGE.values(), *PYRAMIDS.values(), *RESIZES.values()])
def test_a_lowered_graph_is_standard_onnx(model):
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} == {""}
    assert all(node.domain != DOMAIN for node in model.graph.node)


@settings(deadline=None, max_examples=60)
@given(height=SIDES, width=SIDES, bins=st.sampled_from(list(AVERAGE)))
def test_adaptive_average_pooling_is_right_at_every_size(height, width, bins):
    x = images(height, width)
    expected = F.adaptive_avg_pool2d(torch.from_numpy(x).double(), bins).numpy()
    (got,) = run(AVERAGE[bins], x)
    # Two dot products of `height` and of `width` terms of at most max|x| each, weights summing
    # to 1: the classical bound n·eps on either, plus the rounding of the weights themselves.
    bound = (height + width + 4) * EPS32 * np.abs(x).max()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= bound


@settings(deadline=None, max_examples=60)
@given(height=SIDES, width=SIDES, levels=st.sampled_from(list(PYRAMIDS)))
def test_a_max_pyramid_is_exact_at_every_size(height, width, levels):
    x = images(height, width)
    for level, got in zip(levels, run(PYRAMIDS[levels], x), strict=True):
        expected = F.adaptive_max_pool2d(torch.from_numpy(x), level).numpy()
        np.testing.assert_array_equal(got, expected)


@settings(deadline=None, max_examples=60)
@given(height=SIDES, width=SIDES, size=st.sampled_from(list(RESIZES)))
def test_a_bilinear_resize_is_right_at_every_size(height, width, size):
    x = images(height, width)
    expected = F.interpolate(
        torch.from_numpy(x).double(), size=size, mode="bilinear", align_corners=False
    ).numpy()
    (got,) = run(RESIZES[size], x)
    # Each axis is a + (b − a)·w: two roundings of a difference up to 2·max|x|, one of the weight.
    bound = 16 * EPS32 * np.abs(x).max()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= bound


def test_a_pyramid_whose_levels_nest_reads_the_map_once():
    readers = [node for node in PYRAMIDS[4, 2, 1].graph.node if "input" in node.input]
    assert sorted(node.op_type for node in readers) == ["Shape", *["Slice"] * 4]


def test_levels_that_do_not_nest_are_each_read_from_the_map():
    readers = [node.op_type for node in PYRAMIDS[5, 3].graph.node if "input" in node.input]
    assert readers.count("Slice") == 5 + 3


def test_bins_shifted_by_one_cell_are_seen_by_the_comparison():
    x = images(13, 13)
    shifted = np.roll(x, 1, axis=2)
    (got,) = run(AVERAGE[7, 7], shifted)
    expected = F.adaptive_avg_pool2d(torch.from_numpy(x).double(), 7).numpy()
    assert np.abs(got - expected).max() > 1e-2
