"""`anysize rewrite` finds what fixes the size; exit 0 means that the new file takes others."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

import anysize
from anysize.errors import DeclinedError
from anysize.surgery import load_model, read_metadata

HEADS = {
    "fcn": "rows = Flatten (map) scores = Gemm <transB = 1> (rows, w)",
    "gap": "mean = AveragePool <kernel_shape = [12, 12]> (map) rows = Flatten (mean) "
    "scores = Gemm <transB = 1> (rows, w)",
    "dynamic": "mean = GlobalAveragePool (map) rows = Flatten (mean) "
    "scores = Gemm <transB = 1> (rows, w)",
}
WORDS = {"fcn": "fully convolutional", "gap": "head gap", "dynamic": "batch, height and width"}


@pytest.fixture
def file(tmp_path):
    def write(kind, *, batch=1, dtype="float"):
        cast = "cast = Cast <to = 1> (image)"
        model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
            net ({dtype}[{batch}, 3, 24, 24] image) => (float[{batch}, 5] scores) {{
                {cast} conv = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (cast, k)
                map = Relu (conv) {HEADS[kind]} }}""")
        rng = np.random.default_rng(0)
        inputs = 8 * 12 * 12 if kind == "fcn" else 8
        scale = np.float32(0.01 if dtype == "uint8" else 1)
        for name, dims in {"k": (8, 3, 3, 3), "w": (5, inputs)}.items():
            values = rng.standard_normal(dims).astype(np.float32) * np.float32(0.2) * scale
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        path = tmp_path / f"{kind}.onnx"
        onnx.save(model, path)
        return path

    return write


@pytest.mark.parametrize("kind", HEADS)
def test_auto_finds_what_fixes_the_size_and_says_so(file, kind, tmp_path):
    done = anysize.rewrite(file(kind), tmp_path / "any.onnx")
    assert (done.head, done.applied) == (kind, True)
    assert f"any.onnx: {WORDS[kind]}" in done.summary()
    assert f"(--to {kind}), sizes " in done.summary()
    assert "consistent with the file's own layers: " in done.summary()
    assert "verified" not in done.summary()
    (image,) = onnx.load(tmp_path / "any.onnx").graph.input
    dims = image.type.tensor_type.shape.dim
    assert [dim.dim_param for dim in dims] == ["batch", "", "height", "width"]


def test_a_target_that_was_asked_for_is_not_said_to_be_found(file, tmp_path):
    done = anysize.rewrite(file("fcn"), tmp_path / "any.onnx", to="fcn", verify=False)
    assert "(--to" not in done.summary()


@pytest.mark.parametrize("to", ["fcn", "adaptive"])
def test_a_file_with_a_declared_size_is_not_copied_but_told_of_dynamic(file, to, tmp_path):
    with pytest.raises(DeclinedError, match=r"declares its batch, .*--to auto"):
        anysize.rewrite(file("dynamic"), tmp_path / "any.onnx", to=to)
    assert not (tmp_path / "any.onnx").exists()


def test_resize_resizes_what_takes_any_size(file, tmp_path):
    done = anysize.rewrite(file("dynamic"), tmp_path / "any.onnx", to="resize")
    assert done.applied
    assert read_metadata(load_model(tmp_path / "any.onnx")).head == "resize"
    assert str(done.min_size) == "1x1"


def test_inspect_names_the_rewrite_that_frees_what_is_declared(file):
    path = file("dynamic")
    assert f"anysize rewrite {path} --to dynamic -o any.onnx" in anysize.inspect(path).advice


@pytest.mark.parametrize("to", ["fcn", "adaptive", "resize"])
def test_an_original_with_a_batch_of_ten_is_proved_at_ten(file, to, tmp_path):
    done = anysize.rewrite(file("fcn", batch=10), tmp_path / "any.onnx", to=to)
    assert done.proof is not None
    assert done.proof.ok


def test_images_of_bytes_are_proved(file, tmp_path):
    done = anysize.rewrite(file("fcn", dtype="uint8"), tmp_path / "any.onnx")
    assert done.proof is not None
    assert done.proof.ok
