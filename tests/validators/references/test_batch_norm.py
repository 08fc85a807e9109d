"""The arbiter's batch normalisation uses the statistics of the file at every opset."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from anysize.validators.references.graph.operators.batch_norm import BatchNormalization


def graph(opset):
    names = ["x", "scale", "bias", "mean", "var"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in names]
    node = helper.make_node("BatchNormalization", names, ["y"], epsilon=0.01)
    output = helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(helper.make_graph([node], "g", inputs, [output]), opset_imports=opsets)


def feeds():
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(0.5, 2, 3) for name in ("scale", "bias", "mean", "var")}
    return values | {"x": rng.standard_normal((2, 3, 4, 5))}


def expected(given):
    scale, bias, mean, var = (given[n][:, None, None] for n in ("scale", "bias", "mean", "var"))
    return (given["x"] - mean) / np.sqrt(var + 0.01) * scale + bias


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 17])
def test_the_statistics_are_those_of_the_file(opset):
    given = feeds()
    (y,) = ReferenceEvaluator(graph(opset), new_ops=[BatchNormalization]).run(None, given)
    assert y.dtype == np.float64
    assert np.allclose(y, expected(given), rtol=1e-12)


def test_the_evaluator_alone_trains_at_opset_9():
    given = feeds()
    (y,) = ReferenceEvaluator(graph(9)).run(None, given)
    assert not np.allclose(y, expected(given), rtol=1e-2)
