"""Heads on several feature maps: each becomes the map of its own outputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery import find_head, find_heads, rewrite
from anysize.validators.proof import prove_rewrite

SIZES = [Size(40, 48), Size(61, 43)]
# Beside `fmap` (4×8×8) the map before its pooling (4×16×16), as an auxiliary classifier is on it.
TWO = """flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)
         early = Flatten (active) hidden = Gemm <transB = 1> (early, u) warm = Relu (hidden)
         side = Gemm <transB = 1> (warm, v)"""
WEIGHTS = {"w": (5, 256), "b": (5,), "u": (6, 1024), "v": (3, 6)}
OUTPUTS = "float[1, 5] scores, float[1, 3] side"
# Beside the head a global average, which takes any size by itself.
POOLED = """flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)
            mean = GlobalAveragePool (active) side = Flatten (mean)"""


@pytest.fixture
def two(kit):
    return kit.fc(TWO, WEIGHTS, outputs=OUTPUTS)


@pytest.fixture
def beside_a_pooled_one(kit):
    weights = {name: WEIGHTS[name] for name in "wb"}
    return kit.fc(POOLED, weights, outputs="float[1, 5] scores, float[1, 4] side")


def operators(model):
    return [node.op_type for node in model.graph.node]


def ranks(model):
    return [len(output.type.tensor_type.shape.dim) for output in model.graph.output]


def test_there_is_one_head_for_each_map(two):
    heads = find_heads(two)
    assert [(head.feature_map, head.outputs) for head in heads] == [
        ("fmap", ("scores",)),
        ("active", ("side",)),
    ]
    with pytest.raises(DeclinedError, match="fully connected heads on 'fmap' and 'active'"):
        find_head(two)


@pytest.mark.parametrize("output", ["map", "logits", "both"])
def test_each_becomes_convolutional(two, output):
    done = rewrite(two, output=output)
    onnx.checker.check_model(done.model, full_check=True)
    assert "Gemm" not in operators(done.model)
    names = [value.name for value in done.model.graph.output]
    assert names == ["scores", "side"] + (["map", "map_2"] if output == "both" else [])
    assert ranks(done.model) == {"map": [4, 4], "logits": [2, 2], "both": [2, 2, 4, 4]}[output]
    proof = prove_rewrite(two, done.model, SIZES)
    assert proof.ok, proof.message
    assert all(len(cell.outputs) == len(names) for cell in proof.cells if cell.outputs[2:])


def test_adaptive_pools_each_map(two):
    done = rewrite(two, to="adaptive")
    assert operators(done.model).count("Gemm") == 3
    proof = prove_rewrite(two, done.model, [*SIZES, Size(20, 24)])
    assert proof.ok, proof.message


def test_resize_leaves_each_head(two):
    proof = prove_rewrite(two, rewrite(two, to="resize").model, SIZES)
    assert proof.ok, proof.message


def test_the_smallest_image_yields_every_map(two):
    # 31 pixels give the maps 16 and 8, as 32 do; the second alone would take 29.
    assert rewrite(two).min_size == Size(31, 31)


@pytest.mark.parametrize("output", ["map", "logits", "both"])
def test_an_output_that_takes_any_size_stays_as_it_is(beside_a_pooled_one, output):
    done = rewrite(beside_a_pooled_one, output=output)
    assert ranks(done.model)[1] == 2
    proof = prove_rewrite(beside_a_pooled_one, done.model, SIZES)
    assert proof.ok, proof.message


@pytest.mark.parametrize("spoilt", ["v", "w"])
def test_the_proof_sees_each_head(two, spoilt):
    done = rewrite(two)
    for tensor in done.model.graph.initializer:
        if tensor.name == spoilt:
            array = onnx.numpy_helper.to_array(tensor) * np.float32(1.01)
            tensor.raw_data = array.tobytes()
    proof = prove_rewrite(two, done.model, SIZES)
    assert not proof.ok


def test_the_proof_sees_outputs_that_changed_places(two):
    done = rewrite(two)
    outputs = list(done.model.graph.output)
    del done.model.graph.output[:]
    done.model.graph.output.extend(reversed(outputs))
    assert not prove_rewrite(two, done.model, SIZES).ok


def test_a_head_on_two_maps_is_declined(kit):
    model = kit.fc(
        TWO + " more = MatMul (side, x) both = Add (scores, more)",
        {**WEIGHTS, "x": (3, 5)},
        outputs=f"{OUTPUTS}, float[1, 5] both",
    )
    with pytest.raises(DeclinedError, match="flattens 'fmap' and 'active', expected one"):
        rewrite(model)


def test_one_map_may_have_several_heads(kit):
    model = kit.fc(
        """flat = Flatten (fmap) scores = Gemm <transB = 1> (flat, w, b)
           again = Flatten (fmap) side = Gemm <transB = 1> (again, u)""",
        {"w": (5, 256), "b": (5,), "u": (3, 256)},
        outputs=OUTPUTS,
    )
    (head,) = find_heads(model)
    assert head.outputs == ("scores", "side")
    assert prove_rewrite(model, rewrite(model).model, SIZES).ok
