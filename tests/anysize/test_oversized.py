"""Small files that ask for gigabytes are refused before a runtime sees them."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import anysize
from anysize.errors import AnysizeError, ModelFileError
from anysize.surgery import load_model
from anysize.surgery.storage.attached import attached, mapped_array
from anysize.surgery.storage.tensors import Place, place_of

BOUND_S = 10.0


def classifier(doublings: int, *, units: int = 5) -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    nodes, tensor = [], "image"
    for place in range(doublings):
        nodes.append(helper.make_node("Concat", [tensor, tensor], [f"twice{place}"], axis=1))
        tensor = f"twice{place}"
    nodes += [
        helper.make_node("ReduceMean", [tensor], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["scores"], transB=1),
    ]
    weight = numpy_helper.from_array(draw.standard_normal((units, 256), np.float32), "weight")
    graph = helper.make_graph(
        nodes,
        "doubling",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, units])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("role", ["file under test", "reference", "rewrite"])
def test_a_file_that_doubles_thirty_times_is_refused(role, tmp_path):
    good, bad, out = tmp_path / "good.onnx", tmp_path / "bad.onnx", tmp_path / "out.onnx"
    onnx.save(classifier(2), good)
    onnx.save(classifier(30), bad)
    start = time.perf_counter()
    with pytest.raises(AnysizeError, match="more than any layer of a classifier") as caught:
        if role == "rewrite":
            anysize.rewrite(bad, out)
        elif role == "reference":
            anysize.validate(good, bad)
        else:
            anysize.validate(bad, good)
    assert time.perf_counter() - start < BOUND_S
    assert role == "rewrite" or isinstance(caught.value, ModelFileError)
    assert not out.exists()


def test_weights_in_their_file_are_external_data_to_a_runtime(tmp_path):
    path = tmp_path / "a b ü.onnx"
    onnx.save(classifier(0, units=100), path)
    model = load_model(path, weights="in_file")
    copy = attached(model, tmp_path)
    assert place_of(model.graph.initializer[0]) is Place.OWN_FILE
    assert place_of(copy.graph.initializer[0]) is Place.OTHER_FILE
    expected = numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    assert np.array_equal(mapped_array(model.graph.initializer[0], tmp_path), expected)
    assert len(copy.SerializeToString()) < 2000
    assert attached(onnx.load(path), tmp_path) == onnx.load(path)


def test_weights_of_a_linked_file_are_read(tmp_path):
    onnx.save(classifier(0, units=100), tmp_path / "real.onnx")
    link = tmp_path / "link.onnx"
    link.symlink_to("real.onnx")
    copy = attached(load_model(link, weights="in_file"), tmp_path)
    assert copy == onnx.load(tmp_path / "real.onnx")
