"""Pyramids with the paper's bins: right where the formula gives n×n bins, refused elsewhere."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from torch import nn

from anysize.errors import MapSizeError
from anysize.exporters import ExportSpec, export_module
from anysize.exporters.lowerings import has_paper_bins, lower_placeholders
from anysize.exporters.tracing.trace import trace
from anysize.models import HeadOptions, build
from anysize.models.operators import paper_bins, paper_max_pool
from anysize.sizes import Size, SizeRange
from anysize.surgery import free_axes

ort.set_default_logger_severity(4)
PYRAMIDS = ((4, 2, 1), (6, 3, 2, 1), (5,), (1,), (3, 3))


class Pyramid(nn.Module):
    def __init__(self, levels):
        super().__init__()
        self.levels = levels

    def forward(self, x):
        return tuple(paper_max_pool(x, level) for level in self.levels)


def lowered(levels):
    # 14x21 suits none of the levels above 3: the trace does not look at the size.
    traced = trace(
        Pyramid(levels).eval(),
        Size(14, 21),
        batch=2,
        channels=3,
        opset=18,
        output_names=[f"output_{i}" for i in range(len(levels))],
    )
    model = ir.to_proto(traced.model)
    lower_placeholders(model)
    return free_axes(model, batch=False)


MODELS = {levels: lowered(levels) for levels in PYRAMIDS}
SESSIONS = {
    levels: ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for levels, model in MODELS.items()
}


def images(height, width):
    return np.random.default_rng(0).standard_normal((2, 3, height, width), dtype=np.float32)


@pytest.mark.parametrize("levels", PYRAMIDS, ids=str)
def test_a_lowered_pyramid_is_standard_onnx(levels):
    onnx.checker.check_model(MODELS[levels], full_check=True)
    assert {entry.domain for entry in MODELS[levels].opset_import} == {""}
    assert has_paper_bins(MODELS[levels])


def check(run, levels, height, width):
    """Compare with PyTorch: the same numbers, or refused on both sides."""
    x = images(height, width)
    try:
        expected = Pyramid(levels)(torch.from_numpy(x))
    except MapSizeError:
        with pytest.raises(Exception):  # noqa: B017 - each runtime raises its own
            run({"input": x})
        return
    for got, wanted in zip(run({"input": x}), expected, strict=True):
        np.testing.assert_array_equal(got, wanted.numpy())


@settings(deadline=None, max_examples=120)
@given(height=st.integers(1, 40), width=st.integers(1, 40), levels=st.sampled_from(PYRAMIDS))
def test_a_pyramid_is_exact_or_refused_at_every_size(height, width, levels):
    check(lambda feed: SESSIONS[levels].run(None, feed), levels, height, width)


@pytest.mark.parametrize("side", [1, 2, 4, 7, 10, 11, 13])
def test_the_evaluator_agrees_on_what_is_refused(side):
    evaluator = ReferenceEvaluator(MODELS[4, 2, 1])
    check(lambda feed: evaluator.run(None, feed), (4, 2, 1), side, 13)


def test_a_pyramid_on_another_map_would_be_seen():
    with pytest.raises(AssertionError):
        check(lambda feed: SESSIONS[5,].run(None, {"input": -feed["input"]}), (5,), 10, 10)


def test_the_smallest_size_of_a_file_is_found_below_a_gap():
    """Maps of 4 and 5 cells fit level 4, those of 6 and 7 do not, 8 to 10 do again."""
    assert [a for a in range(1, 13) if paper_bins(a, 4) == 4] == [4, 5, 8, 9, 10, 12]
    options = HeadOptions(bins="paper")
    module = build("lenet", head="spp", size=Size(60, 60), options=options)
    spec = ExportSpec(name="lenet", head="spp", channels=1, classes=10, size=Size(60, 60))
    assert export_module(module, spec).sizes == SizeRange(Size(28, 28))
