"""The arbiter's max pooling gives the evaluator's own bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from anysize.validators.references.graph.operators.max_pool import MaxPool, _pool

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def evaluate(x, operators, **attributes):
    node = helper.make_node("MaxPool", ["x"], ["y"], **attributes)
    values = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, [None] * 4) for n in "xy"]
    graph = helper.make_graph([node], "pool", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return ReferenceEvaluator(model, new_ops=operators).run(None, {"x": x})[0]


SIDES = st.tuples(st.integers(4, 9), st.integers(4, 9))


@given(PAIRS, PAIRS, st.integers(0, 1), SIDES)
def test_a_plain_pooling_has_the_evaluators_bits(kernel, strides, pad, sides):
    pads = [pad if kernel in ((2, 2), (3, 3)) else 0] * 4
    x = np.random.default_rng(0).standard_normal((2, 3, *sides))
    options = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    ours, theirs = evaluate(x, [MaxPool], **options), evaluate(x, [], **options)
    np.testing.assert_array_equal(ours, theirs)


@given(PAIRS, PAIRS, st.tuples(*[st.integers(0, 2)] * 4), SIDES)
def test_uneven_padding_has_the_bits_of_pytorch(kernel, strides, pads, sides):
    # The evaluator of onnx 1.23 mixes up the axes of uneven pads at stride 1.
    top, left, bottom, right = pads
    x = np.random.default_rng(0).standard_normal((2, 3, *sides))
    padded = nn.functional.pad(torch.from_numpy(x), (left, right, top, bottom), value=-np.inf)
    wanted = nn.functional.max_pool2d(padded, kernel, strides).numpy()
    ours = evaluate(x, [MaxPool], kernel_shape=kernel, strides=strides, pads=pads)
    np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize(
    "options",
    [
        {"ceil_mode": 1, "strides": [2, 2]},
        {"dilations": [2, 2]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_any_other_pooling_is_left_to_the_evaluator(options, monkeypatch):
    monkeypatch.setattr("anysize.validators.references.graph.operators.max_pool._pool", None)
    x = np.random.default_rng(0).standard_normal((1, 2, 7, 8))
    options = {"kernel_shape": [3, 3], **options}
    np.testing.assert_array_equal(evaluate(x, [MaxPool], **options), evaluate(x, [], **options))


def test_a_map_below_the_window_is_left_to_the_evaluator():
    assert _pool(np.zeros((1, 1, 1, 4)), (2, 2), (0,) * 4, (2, 2)) is None


def test_a_nan_stays_a_nan():
    x = np.zeros((1, 1, 2, 2))
    x[0, 0, 1, 0] = np.nan
    assert np.isnan(evaluate(x, [MaxPool], kernel_shape=[2, 2])).all()
