"""ONNX's own test models go through a rewrite unchanged, or are declined; none changes in value."""

from __future__ import annotations

import collections
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx.backend.test.loader import load_model_tests

from anysize.errors import AnysizeError
from anysize.surgery import TARGETS, load_model, rewrite

FOLDER = Path(onnx.backend.test.__file__).parent / "data"


def outcomes(path, run, inputs=None):
    """Rewrite a file to every target; say what came of it. Compared on `inputs`, if there are."""
    try:
        model = load_model(path)
    except AnysizeError as error:
        return [message_of(error)]
    before = model.SerializeToString()
    found = []
    for target in TARGETS:
        try:
            result = rewrite(model, to=target)
        except AnysizeError as error:
            found.append(message_of(error))
            continue
        if not result.applied:
            assert result.model.SerializeToString() == before
            found.append("unchanged")
            continue
        is_same = assert_same_values(model, result.model, run, inputs or random_inputs(model))
        found.append("rewritten" if is_same else "not run")
    assert model.SerializeToString() == before
    return found


def message_of(error):
    message = str(error)
    assert message
    assert len(message.splitlines()) == 1
    return "refused"


def random_inputs(model):
    filled = {tensor.name for tensor in model.graph.initializer}
    rng, inputs = np.random.default_rng(0), []
    for value in model.graph.input:
        if value.name not in filled:
            dims = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            inputs.append(rng.standard_normal(dims).astype(kind))
    return inputs


def assert_same_values(original, rewritten, run, inputs):
    """Compare at the original's own size, where ONNX Runtime takes the original at all."""
    onnx.checker.check_model(rewritten, full_check=True)
    try:
        expected = run(original, *inputs)
    except Exception:  # no kernel (AveragePool of opset 1), or a newer operator than it knows
        return False
    for one, other in zip(expected, run(rewritten, *inputs), strict=True):
        assert np.allclose(one.ravel(), other.ravel(), rtol=1e-4, atol=1e-5, equal_nan=True)
    return True


@pytest.mark.parametrize("kind", ["simple", "pytorch-operator", "pytorch-converted"])
def test_a_model_of_the_backend_tests_is_never_changed_in_value(kind, kit):
    paths = sorted((FOLDER / kind).glob("*/model.onnx"))
    assert len(paths) > 20
    found = [outcome for path in paths for outcome in outcomes(path, kit.run)]
    assert "refused" in found


@pytest.mark.slow
def test_a_node_of_the_backend_tests_is_never_changed_in_value(kit, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases compute infinities on purpose
        cases = load_model_tests(kind="node")
    assert len(cases) > 1000
    path, found = tmp_path / "model.onnx", []
    for case in cases:
        path.write_bytes(case.model.SerializeToString())
        found += outcomes(path, kit.run, case.data_sets[0][0])
    counts = collections.Counter(found)
    assert counts["rewritten"] > 3 * counts["not run"] > 0
