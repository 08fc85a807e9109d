"""Files whose input is float16, as converters write them, are rewritten, proved and validated."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

HALF = """<ir_version: 8, opset_import: ["" : 17]>
half (float16[1, 3, 16, 16] image) => (float16[1, 5] scores) {
    conv = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, k)
    active = Relu (conv)
    pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (active)
    flat = Flatten (pooled)
    scores = Gemm <transB = 1> (flat, w, b)
}"""
SHAPES = {"k": (6, 3, 3, 3), "w": (5, 6 * 8 * 8), "b": (5,)}
SIZES = ("--sizes", "16x16,20x26", "--batches", "2")


@pytest.fixture
def half(tmp_path):
    model = onnx.parser.parse_model(HALF)
    draw = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        values = draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), name))
    path = tmp_path / "half.onnx"
    onnx.save(model, path)
    return path


def test_the_rewrite_is_proved(half, run):
    done = run("rewrite", half, "-o", half.with_name("any.onnx"))
    assert done.code == 0
    assert "consistent with the file's own layers: " in done.out


@pytest.mark.parametrize("to", ["fcn", "adaptive"])
def test_it_is_validated_against_its_original(half, run, to):
    path = half.with_name("any.onnx")
    assert run("rewrite", half, "-o", path, "--to", to, "--no-verify").code == 0
    done = run(
        "validate", path, "--reference", half, *SIZES, "--runtimes", "ort-cpu,onnx-reference",
        "--json", "-",
    )  # fmt: skip
    report = json.loads(done.out)
    assert done.code == 0, [cell["message"] for cell in report["cells"]]
    assert {record["profile"] for record in report["runtimes"]} == {"float16"}


def test_it_is_compared_with_an_original_in_float32(half, run):
    model = onnx.load(half)
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for value in (*wide.graph.input, *wide.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for tensor in wide.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    original = half.with_name("wide.onnx")
    onnx.save(wide, original)
    options = ("--reference", original, "--sizes", "16x16", "--batches", "1", "--json", "-")
    done = run("validate", half, *options)
    assert done.code == 0, done.out


@pytest.mark.parametrize("says", [False, True], ids=["silent", "--half"])
def test_float16_inside_is_half_precision_where_somebody_says_so(half, run, says):
    """As converters write it that keep the types of input and output."""
    model = onnx.load(half)
    graph = model.graph
    for (value,) in (graph.input, graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        value.name = f"{value.name}32"
    narrow = onnx.helper.make_node("Cast", ["image32"], ["image"], to=onnx.TensorProto.FLOAT16)
    wide = onnx.helper.make_node("Cast", ["scores"], ["scores32"], to=onnx.TensorProto.FLOAT)
    nodes = [narrow, *graph.node, wide]
    del graph.node[:]
    graph.node.extend(nodes)
    path = half.with_name("inside.onnx")
    onnx.save(model, path)
    original = half.with_name("wide.onnx")
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float32) * np.float32(1.0002)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in graph.node:
        if node.op_type == "Cast":
            node.attribute[0].i = onnx.TensorProto.FLOAT
    onnx.save(model, original)
    options = ("--reference", original, "--sizes", "16x16", "--batches", "1", "--json", "-")
    done = run("validate", path, *options, *(["--half"] if says else []))
    report = json.loads(done.out)
    assert done.code == (0 if says else 1)
    assert report["runtimes"][0]["profile"] == ("float16" if says else "strict")
    assert any("--half judges the file" in note for note in report["notes"]) == (not says)


def test_a_wrong_bias_is_found(half, run):
    path = half.with_name("any.onnx")
    assert run("rewrite", half, "-o", path, "--no-verify").code == 0
    model = onnx.load(path)
    bias = next(t for t in model.graph.initializer if t.name == "b")
    bias.raw_data = (numpy_helper.to_array(bias) + np.float16(0.05)).tobytes()
    onnx.save(model, path)
    assert run("validate", path, "--reference", half, *SIZES).code == 1


def test_images_of_another_type_are_refused(half, run, tmp_path):
    np.savez(tmp_path / "images.npz", image=np.ones((1, 3, 16, 16), np.float32))
    done = run("validate", half, "--reference", half, "--inputs", tmp_path / "images.npz")
    assert done.code == 2
    assert "'image' is float32, expected float16" in done.err
