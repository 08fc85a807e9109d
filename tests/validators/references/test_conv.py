"""The arbiter's convolution computes what the specification's evaluator computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from anysize.validators.references.graph.operators.conv import Conv

EPS64 = float(np.finfo(np.float64).eps)


def evaluate(x, w, b, operators, **attributes):
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, array.shape)
        for name, array in (("x", x), ("w", w), ("b", b))
    ]
    output = helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None] * 4)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)
    model = helper.make_model(
        helper.make_graph([node], "conv", inputs, [output]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    (y,) = ReferenceEvaluator(model, new_ops=operators).run(None, {"x": x, "w": w, "b": b})
    return y


PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(
    kernel=PAIR,
    strides=PAIR,
    dilations=PAIR,
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    group=st.sampled_from([1, 2]),
    sides=st.tuples(st.integers(7, 12), st.integers(7, 12)),
)
def test_it_equals_the_evaluator_up_to_the_order_of_sums(
    kernel, strides, dilations, pads, group, sides
):
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 4, *sides))
    w = random.standard_normal((6, 4 // group, *kernel))
    b = random.standard_normal(6)
    options = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
    ours, theirs = evaluate(x, w, b, [Conv], **options), evaluate(x, w, b, [], **options)
    terms = w[0].size + 1
    bound = 2 * terms * EPS64 * (np.abs(w).max() * np.abs(x).max() + np.abs(b).max()) * terms
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= bound


def test_a_shifted_kernel_is_noticed():
    random = np.random.default_rng(0)
    x, b = random.standard_normal((1, 2, 8, 8)), np.zeros(3)
    w = random.standard_normal((3, 2, 3, 3))
    wrong = np.roll(w, 1, axis=3)
    assert np.abs(evaluate(x, w, b, [Conv]) - evaluate(x, wrong, b, [])).max() > 0.1


def test_automatic_padding_is_left_to_the_evaluator():
    random = np.random.default_rng(0)
    x, w, b = random.standard_normal((1, 2, 8, 9)), random.standard_normal((3, 2, 3, 3)), np.ones(3)
    options = {"auto_pad": "SAME_UPPER"}
    np.testing.assert_array_equal(
        evaluate(x, w, b, [Conv], **options), evaluate(x, w, b, [], **options)
    )


def test_a_kernel_larger_than_the_image_is_refused_as_pytorch_refuses_it():
    x, w, b = np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3)), np.zeros(1)
    with pytest.raises(RuntimeError, match="Kernel size"):
        evaluate(x, w, b, [Conv])
