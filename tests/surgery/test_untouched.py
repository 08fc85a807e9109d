"""What is not the head stays byte for byte, whatever a file carries, and no run differs."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from anysize.sizes import Size
from anysize.surgery import load_model, rewrite, save_model
from anysize.validators.proof import prove_rewrite

FLAT = 4 * 8 * 8
# Field 3001, a string: no version of onnx.proto has it.
UNKNOWN = b"\xca\xbb\x01\x07unknown"
HEAD = """flat = Flatten (fmap) h = Gemm <transB = 1> (flat, w, b) warm = Relu (h)
          scores = Gemm <transB = 1> (warm, v, c)"""


def loaded(kit):
    """A classifier with everything on board that onnx.proto has a place for."""
    model = kit.fc(
        HEAD,
        {"w": (6, FLAT), "b": (6,), "v": (5, 6), "c": (5,)},
    )
    graph = model.graph
    with_branch_and_function(model)
    values = numpy_helper.from_array(np.array([0.5, -0.25], np.float32), "sparse")
    places = numpy_helper.from_array(np.array([1, 3], np.int64), "sparse_places")
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4]))
    note = graph.quantization_annotation.add(tensor_name="fmap")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="b")
    step = model.training_info.add()
    step.algorithm.name = "step"
    step.algorithm.output.add(name="loss")
    for owner in (model, graph, graph.node[0], graph.node[3]):
        owner.metadata_props.add(key="made", value="by hand")
    graph.value_info.extend(
        [
            helper.make_tensor_value_info("branch", 1, (4,)),
            helper.make_tensor_value_info("fmap", 1, (1, 4, 8, 8)),
            helper.make_tensor_value_info("flat", 1, (1, FLAT)),
            helper.make_tensor_value_info("h", 1, (1, 6)),
        ]
    )
    for message in (model, graph, graph.node[0], graph.node[2], graph.initializer[0]):
        message.MergeFromString(UNKNOWN)
    return onnx.ModelProto.FromString(model.SerializeToString())


def with_branch_and_function(model):
    """Let an If choose the convolution's bias, and a function of the file's own double it."""
    branches = {}
    for name, factor in (("then", 1.0), ("else", 2.0)):
        constant = numpy_helper.from_array(np.array([factor], np.float32))
        inner = helper.make_node("Constant", [], [f"{name}_factor"], value=constant)
        scaled = helper.make_node("Mul", ["conv_b", f"{name}_factor"], [f"{name}_bias"])
        made = helper.make_tensor_value_info(f"{name}_bias", 1, (4,))
        branches[f"{name}_branch"] = helper.make_graph([inner, scaled], name, [], [made])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    twice = helper.make_node("Add", ["x", "x"], ["y"])
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Twice", ["x"], ["y"], [twice], opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    choose = helper.make_node("If", ["flag"], ["branch"], "choose", **branches)
    double = helper.make_node("Twice", ["branch"], ["bias"], "double", domain="own")
    for place, node in enumerate((choose, double)):
        model.graph.node.insert(place, node)
    model.graph.node[2].input[2] = "bias"


@pytest.fixture
def pair(kit):
    model = loaded(kit)
    onnx.checker.check_model(model, full_check=True)
    return model, rewrite(model).model


def test_the_rewrite_of_a_file_with_everything_on_board_is_proved(pair):
    proof = prove_rewrite(*pair, [Size(50, 41)])
    assert proof.ok, proof.message


@pytest.mark.parametrize(
    "part", ["functions", "training_info", "opset_import", "ir_version", "metadata_props"]
)
def test_a_part_of_the_model_stays(pair, part):
    before, after = (getattr(model, part) for model in pair)
    assert before
    if part == "metadata_props":  # the rewrite adds its own
        after = after[: len(before)]
    assert after == before


@pytest.mark.parametrize(
    "part", ["sparse_initializer", "quantization_annotation", "metadata_props", "name"]
)
def test_a_part_of_the_graph_stays(pair, part):
    before, after = (getattr(model.graph, part) for model in pair)
    assert before
    assert after == before


def test_nodes_before_the_head_stay_with_their_branches(pair):
    before, after = (list(model.graph.node) for model in pair)
    assert [node.op_type for node in before[:3]] == ["If", "Twice", "Conv"]
    assert after[:5] == before[:5]


def test_initializers_keep_their_order_and_the_bytes_that_they_hold(pair):
    before, after = (list(model.graph.initializer) for model in pair)
    assert [tensor.name for tensor in after] == [tensor.name for tensor in before]
    assert [tensor.raw_data for tensor in after] == [tensor.raw_data for tensor in before]


def test_recorded_shapes_stay_where_they_are_true_for_every_image_and_go_elsewhere(pair):
    before, after = (list(model.graph.value_info) for model in pair)
    assert [value.name for value in before] == ["branch", "fmap", "flat", "h"]
    assert after == before[:1]


def test_fields_from_the_future_stay(pair):
    before, after = (model.SerializeToString() for model in pair)
    assert after.count(UNKNOWN) == before.count(UNKNOWN) == 5


def test_a_file_keeps_it_all(pair, tmp_path):
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(pair[0], source)
    save_model(rewrite(load_model(source)).model, target, source=source)
    assert onnx.load(target) == pair[1]


REWRITE = """
import sys, onnx
from anysize.surgery import rewrite
model = onnx.ModelProto.FromString(sys.stdin.buffer.read())
sys.stdout.buffer.write(rewrite(model, output="both").model.SerializeToString())
"""


def test_two_runs_write_the_same_bytes(pair):
    written = {
        subprocess.run(
            [sys.executable, "-c", REWRITE],
            input=pair[0].SerializeToString(),
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(written) == 1
    assert len(written.pop()) > pair[0].ByteSize() // 2
