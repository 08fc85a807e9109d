"""Half precision: float16 between float32 inputs and outputs, integers and sizes exact."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

import anysize
from anysize.errors import ExportError
from anysize.exporters import ExportSpec, export_module
from anysize.exporters.writing.float16 import to_float16
from anysize.models import resolve
from anysize.sizes import Size
from anysize.surgery import HeldWeights, read_metadata

ort.set_default_logger_severity(4)
HEADS = ("fc", "fcn", "gap", "cam", "spp", "adaptive", "resize")


def exported(head, *, half):
    model = resolve("digits", head=head)
    spec = ExportSpec(
        name="digits",
        head=head,
        channels=1,
        classes=11,
        size=model.training_size,
        output_names=model.module.output_names,
        float16=half,
    )
    return export_module(model.module, spec).loaded()


def kinds(model):
    """Return the element type of every tensor, by onnx's own inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("runtime", ["ort-cpu", "onnx-reference"])
def test_every_head_passes_in_half_precision(tmp_path, head, runtime):
    path = tmp_path / "half.onnx"
    anysize.export("digits", path, head=head, half=True, verify=False)
    sizes = [Size(33, 35)] if head == "fc" else [Size(32, 32), Size(47, 61)]
    report = anysize.validate(path, runtimes=[runtime], sizes=sizes)
    assert report.ok, [cell.message for cell in report.cells]
    assert {record.profile for record in report.runtimes} == {"float16"}


@pytest.mark.parametrize("head", ["fcn", "cam", "adaptive"])
def test_only_the_body_is_in_half_precision(head):
    whole, half = exported(head, half=False), exported(head, half=True)
    onnx.checker.check_model(half, full_check=True)
    assert read_metadata(half).precision == "float16"
    assert read_metadata(whole).precision is None
    found = kinds(half)
    for before, after in zip(
        (*whole.graph.input, *whole.graph.output),
        (*half.graph.input, *half.graph.output),
        strict=True,
    ):
        assert before.SerializeToString() == after.SerializeToString()
        assert found[after.name] == TensorProto.FLOAT
    layers = [node for node in half.graph.node if node.op_type in ("Conv", "Gemm")]
    assert {found[node.output[0]] for node in layers} == {TensorProto.FLOAT16}
    weights = {t.name: t for t in half.graph.initializer}
    for tensor in whole.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.FLOAT:
            array = array.astype(np.float16)
        np.testing.assert_array_equal(numpy_helper.to_array(weights[tensor.name]), array)


def test_bins_and_sampling_points_stay_exact():
    for head, operator in (("adaptive", "MatMul"), ("resize", "Gather")):
        model = exported(head, half=True)
        found = kinds(model)
        made = [n.output[0] for n in model.graph.node if n.op_type == operator]
        assert made
        assert {found[name] for name in made} == {TensorProto.FLOAT}


def make(body, *, weights=None, outputs="float y"):
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[2, 3, h, w] x) => ({outputs})'
        f" {{ {body} }}"
    )
    for name, value in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    for output in model.graph.output:
        output.type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto())
        for side in "abcd"[: 2 if "Flatten" in body else 4]:
            output.type.tensor_type.shape.dim.add().dim_param = side
    return model


def answers(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images}), ReferenceEvaluator(model).run(None, {"x": images})


@pytest.mark.parametrize(
    "body",
    [
        "y = GlobalAveragePool (m)",
        "y = AveragePool <kernel_shape = [4, 4]> (m)",
        "y = LRN <size = 3, alpha = 1.0> (m)",
        "y = InstanceNormalization (m, s, b)",
        "y = ReduceMean (m)",
        "a = Mul (m, t)\n y = Softplus (a)",
    ],
)
def test_sums_and_squares_of_large_values_do_not_overflow(body):
    weights = {"k": 30000 * np.eye(3).reshape(3, 3, 1, 1), "s": np.ones(3), "b": np.zeros(3)}
    weights["t"] = np.full((1,), 0.001)
    used = [name for name in weights if f" {name})" in body or f" {name}," in body]
    model = make(f"m = Conv (x, k)\n {body}", weights={n: weights[n] for n in ("k", *used)})
    images = np.random.default_rng(2).random((2, 3, 8, 9), dtype=np.float32)
    expected = answers(model, images)
    to_float16(model, HeldWeights())
    for (before,), (after,) in zip(expected, answers(model, images), strict=True):
        assert np.isfinite(after).all()
        assert np.abs(after - before).max() <= 4e-3 * np.abs(before).max()


@pytest.mark.parametrize("value", [70000.0, -1e9])
def test_a_weight_outside_float16_is_refused_by_name(value):
    kernel = np.ones((3, 3, 1, 1))
    kernel[1, 2] = value
    with pytest.raises(ExportError, match=re.escape(f"tensor 'k': {value:g} is outside")):
        to_float16(make("y = Conv (x, k)", weights={"k": kernel}), HeldWeights())


def test_the_last_value_that_rounds_into_range_is_taken():
    model = make("y = Conv (x, k)", weights={"k": np.full((3, 3, 1, 1), 65519.0)})
    to_float16(model, HeldWeights())
    assert numpy_helper.to_array(model.graph.initializer[0]).max() == 65504


def test_a_scalar_that_float16_would_lose_keeps_its_node_in_float32():
    model = make(
        "a = Conv (x, k)\n y = Add (a, e)", weights={"k": np.ones((3, 3, 1, 1)), "e": 1e-9}
    )
    to_float16(model, HeldWeights())
    assert numpy_helper.to_array(model.graph.initializer[1]) == np.float32(1e-9)
    (add,) = [node for node in model.graph.node if node.op_type == "Add"]
    assert kinds(model)[add.input[0]] == TensorProto.FLOAT


def test_a_weight_read_in_both_types_is_there_twice():
    weights = {"k": np.ones((3, 3, 1, 1)), "s": [1.0, 2.0, 3.0]}
    body = "a = Conv (x, k, s)\n y = InstanceNormalization (a, s, s)"
    model = make(body, weights=weights)
    to_float16(model, HeldWeights())
    found = {t.name: t.data_type for t in model.graph.initializer}
    assert found == {"k": TensorProto.FLOAT16, "s": TensorProto.FLOAT, "s/float16": 10}


def test_an_output_that_is_read_again_has_one_cast():
    model = make(
        "m = Conv (x, k)\n y = Relu (m)",
        weights={"k": np.ones((3, 3, 1, 1))},
        outputs="float m, float y",
    )
    to_float16(model, HeldWeights())
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Cast", "Conv", "Relu", "Cast", "Cast"]
    assert kinds(model)["m"] == TensorProto.FLOAT


@pytest.mark.parametrize("opset", [13, 24])
def test_half_precision_and_opsets_go_together(tmp_path, opset):
    done = anysize.export("lenet", tmp_path / "l.onnx", head="gap", half=True, opset=opset)
    assert done.report is not None
    assert done.report.ok
    weights = (tmp_path / "l.onnx").stat().st_size
    anysize.export("lenet", tmp_path / "w.onnx", head="gap", opset=opset, verify=False)
    assert weights < 0.75 * (tmp_path / "w.onnx").stat().st_size
