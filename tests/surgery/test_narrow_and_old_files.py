"""Files in other precisions, and of opsets before 7, whose arithmetic says where it broadcasts."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from anysize.sizes import Size
from anysize.surgery import rewrite
from anysize.surgery.storage.weightless import check
from anysize.validators.proof import prove_rewrite
from anysize.validators.references.graph.model import GraphPair

FLAT = 4 * 8 * 8
LARGER = [Size(50, 41)]
HEAD = """flat = Flatten (fmap) hidden = Gemm <transB = 1> (flat, w, b)
          warm = Relu (hidden) scores = Gemm <transB = 1> (warm, v, c)"""
WEIGHTS = {"w": (6, FLAT), "b": (6,), "v": (5, 6), "c": (5,)}


def narrowed(kit, kind, opset=22):
    """A classifier that computes in `kind` throughout."""
    model = kit.fc(HEAD, WEIGHTS, opset=opset, ir_version=10)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(kind)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = code
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("output", ["map", "both"])
def test_half_precision_is_proved_within_what_it_costs_the_original(kit, output):
    model = narrowed(kit, np.float16)
    proof = prove_rewrite(model, rewrite(model, output=output).model, LARGER)
    assert proof.ok, proof.message
    budgets = [result.deviation.budget for cell in proof.cells for result in cell.outputs]
    assert max(budgets) < 8 * float(np.finfo(np.float16).eps)


def test_a_dropped_bias_in_half_precision_turns_the_proof_red(kit):
    model = narrowed(kit, np.float16)
    wrong = rewrite(model).model
    bias = next(t for t in wrong.graph.initializer if t.name == "c")
    bias.CopyFrom(numpy_helper.from_array(np.zeros(5, np.float16), "c"))
    assert not prove_rewrite(model, wrong, LARGER).ok


@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float64], ids=["bfloat16", "double"])
def test_what_onnx_runtime_cannot_compute_is_rewritten_right_all_the_same(kit, kind):
    model = narrowed(kit, kind)
    rewritten = rewrite(model).model
    check(rewritten)
    images = kit.images(1, 3, 32, 32)
    (expected,) = GraphPair(model, name="original").run((images,), "float64")
    (found,) = GraphPair(rewritten, name="rewritten").run((images,), "float64")
    assert np.abs(found[..., 0, 0] - expected).max() < 1e-12 * np.abs(expected).max()


OLD = """flat = Flatten (fmap) h = Gemm <transB = 1, broadcast = 1> (flat, w, b) p = MatMul (h, v)
         q = Add <broadcast = 1, axis = 1> (p, d) g = Mul <broadcast = 1, axis = 1> (q, e)
         r = Relu (g) scores = Gemm <transB = 1, broadcast = 1, alpha = 0.5, beta = 2.0> (r, u, b)
"""


def modern(model, rank):
    """Write out for opset 17 what `broadcast` and `axis` say of tensors of this rank."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    twin.opset_import[0].version = 17
    tensors = {tensor.name: tensor for tensor in twin.graph.initializer}
    for node in twin.graph.node:
        said = {entry.name: entry for entry in node.attribute}
        if "broadcast" not in said:
            continue
        node.attribute.remove(said["broadcast"])
        if "axis" in said:
            node.attribute.remove(said["axis"])
            constant = tensors[node.input[1]]
            constant.dims.extend([1] * (rank - said["axis"].i - len(constant.dims)))
    onnx.checker.check_model(twin, full_check=True)
    return twin


def test_arithmetic_that_says_where_it_broadcasts_is_rewritten_right(kit):
    weights = {"w": (5, FLAT), "b": (5,), "v": (5, 5), "d": (5,), "e": (5,), "u": (5, 5)}
    model = kit.fc(OLD, weights, opset=6)
    rewritten = rewrite(model).model
    check(rewritten)
    assert rewritten.opset_import == model.opset_import
    proof = prove_rewrite(modern(model, 2), modern(rewritten, 4), LARGER)
    assert proof.ok, proof.message
