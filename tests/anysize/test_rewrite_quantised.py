"""`anysize rewrite` of quantised heads: the scales go with their units, and the proof sees it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from quantised_digits import changed, digits, quantise, scans

from anysize import surgery
from anysize.surgery import load_model, save_model

CHANNELS, SIDE, UNITS, CLASSES = 4, 3, 4, 5


def quantised(rng, units, features):
    """Int8 numbers and one scale a unit, very different from one to the next."""
    scale = (rng.uniform(0.5, 1, units) * 2.0 ** -rng.integers(4, 9, units)).astype(np.float32)
    return rng.integers(-127, 128, (units, features)).astype(np.int8), scale


def quantised_head(opset):
    """Conv → Flatten → Gemm → Relu → Gemm at 8×8, each weight behind DequantizeLinear."""
    rng = np.random.default_rng(2)
    kernel = rng.standard_normal((CHANNELS, 1, 3, 3)).astype(np.float32)
    tensors = [numpy_helper.from_array(kernel, "kernel")]
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["map"], "conv", strides=[2, 2]),
        helper.make_node("Flatten", ["map"], ["rows"], "flatten"),
    ]
    features = CHANNELS * SIDE * SIDE
    for name, data, made, units, width in (
        ("fc1", "rows", "hidden", UNITS, features),
        ("fc2", "active", "scores", CLASSES, UNITS),
    ):
        numbers, scale = quantised(rng, units, width)
        zero, bias = np.zeros(units, np.int8), rng.standard_normal(units).astype(np.float32)
        for part, array in (("q", numbers), ("scale", scale), ("zero", zero), ("bias", bias)):
            tensors.append(numpy_helper.from_array(array, f"{name}_{part}"))
        parts = [f"{name}_{part}" for part in ("q", "scale", "zero")]
        nodes += [
            helper.make_node("DequantizeLinear", parts, [f"{name}_w"], f"{name}_dq", axis=0),
            helper.make_node("Gemm", [data, f"{name}_w", f"{name}_bias"], [made], name, transB=1),
        ]
        if made == "hidden":
            nodes.append(helper.make_node("Relu", ["hidden"], ["active"], "relu"))
    image = helper.make_tensor_value_info("image", 1, (1, 1, 8, 8))
    scores = helper.make_tensor_value_info("scores", 1, (1, CLASSES))
    graph = helper.make_graph(nodes, "quantised", [image], [scores], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture(params=[13, 17], ids=lambda opset: f"opset-{opset}")
def files(request, tmp_path):
    source = tmp_path / "quantised.onnx"
    onnx.save(quantised_head(request.param), source)
    return source, tmp_path / "any.onnx"


def test_a_quantised_head_is_rewritten_with_its_proof(files, run):
    source, target = files
    done = run("rewrite", source, "-o", target)
    assert (done.code, done.errors) == (0, [])
    model = load_model(target)
    kernels = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert [list(t.dims) for t in kernels if len(t.dims) == 4] == [[4, 4, 3, 3], [5, 4, 1, 1]]
    checked = run("validate", target, "--reference", source, "--sizes", "8x8,12x17")
    assert (checked.code, checked.errors) == (0, [])


def test_scales_along_the_wrong_axis_turn_the_proof_red(files, run, tmp_path, monkeypatch):
    """Each of the 4 channels gets the scale of one of the 4 units."""
    source, target = files

    def wrong(model, path, **options):
        node = next(node for node in model.graph.node if node.name == "fc1_dq")
        (axis,) = (entry for entry in node.attribute if entry.name == "axis")
        axis.i = 1
        return save_model(model, path, **options)

    monkeypatch.setattr(surgery, "save_model", wrong)
    done = run("rewrite", source, "-o", target)
    assert done.code == 1
    assert not target.exists()


@pytest.fixture(scope="module")
def both_orders(tmp_path_factory):
    """The digits' FC head, quantised and then rewritten, and rewritten and then quantised."""
    import anysize

    folder = tmp_path_factory.mktemp("orders")
    fc, first, last = (folder / f"{name}.onnx" for name in ("fc", "first", "last"))
    quantise(digits(folder, "fc"), folder / "fc-quantised.onnx", per_channel=True)
    anysize.rewrite(folder / "fc-quantised.onnx", first)
    anysize.rewrite(fc, folder / "fcn.onnx")
    quantise(folder / "fcn.onnx", last, per_channel=True)
    return fc, first, last


def test_a_file_of_quantize_static_is_rewritten_with_a_scale_for_each_filter(both_orders):
    model = load_model(both_orders[1])
    dims = {t.name: list(t.dims) for t in model.graph.initializer}
    assert dims["classifier.0.weight_quantized"][2:] == [4, 4]
    assert dims["classifier.2.weight_quantized"][2:] == [1, 1]
    assert len(dims["classifier.0.weight_scale"]) == 1
    assert not any(node.op_type in ("Gemm", "Flatten") for node in model.graph.node)


def test_before_or_after_quantize_static_a_rewrite_gives_the_same_answers(both_orders, run):
    """They have the same roundings at the training size, so no more than these may differ."""
    _, first, last = both_orders
    done = run("validate", first, "--reference", last, "--sizes", "32x32,41x50,64x64")
    assert (done.code, done.errors) == (0, [])
    assert "quantised" in done.out


def test_a_quantised_rewrite_is_its_original_but_for_what_eight_bits_cost(
    both_orders, run, tmp_path
):
    fc, first, _ = both_orders
    np.savez(tmp_path / "scans.npz", input=scans()[:16])
    done = run("validate", first, "--reference", fc, "--inputs", tmp_path / "scans.npz")
    assert (done.code, done.errors) == (0, [])
    assert "its strongest class is the same for 100.0%" in done.out


def test_a_quantised_rewrite_with_another_scale_is_red(both_orders, run, tmp_path):
    fc, first, _ = both_orders
    np.savez(tmp_path / "scans.npz", input=scans()[:16])
    wrong = changed(first, tmp_path / "w.onnx", "classifier.0.weight_scale", lambda s: s * 1.1)
    done = run("validate", wrong, "--reference", fc, "--inputs", tmp_path / "scans.npz")
    assert done.code == 1
    assert "that is not its original" in done.out
