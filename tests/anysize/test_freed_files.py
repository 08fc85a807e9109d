"""A file of which only declared axes were freed: what it declares, and what it is compared with."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

import anysize
from anysize.sizes import Size
from anysize.surgery import FileMetadata, keep_outputs, read_metadata, write_metadata
from anysize.surgery.graph import required_inputs

ROWS = """a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (image, w)
          b = Relu (a) r = Reshape (b, rows) t = Transpose <perm = [0, 2, 1]> (r) y = Relu (t)"""
# A pooling that rounds up beside a strided convolution: even sides only.
SKIP = """wide = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 1, 1]> (image)
          short = Conv <kernel_shape = [1, 1], strides = [2, 2]> (image, w)
          joined = Add (wide, short) pooled = GlobalAveragePool (joined)
          y = Flatten <axis = 1> (pooled)"""


def file(folder, body, output, *, ir_version=8):
    text = f"""<ir_version: {ir_version}, opset_import: ["" : 17]>
        net (float[1, 3, 32, 32] image) => (float[{output}] y) {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    draw = np.random.default_rng(4)
    side = 3 if body == ROWS else 1
    weight = draw.standard_normal((6 if body == ROWS else 3, 3, side, side)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    if body == ROWS:
        rows = np.array([1, 6, 256], np.int64)
        model.graph.initializer.append(onnx.numpy_helper.from_array(rows, "rows"))
    path = folder / "fixed.onnx"
    onnx.save(model, path)
    return path


def declared(path):
    dims = onnx.load(path).graph.output[0].type.tensor_type.shape.dim
    return [dim.dim_param or dim.dim_value for dim in dims]


def verdicts(report):
    return {str(cell.size): str(cell.verdict) for cell in report.cells}


def test_an_output_s_axis_that_follows_the_image_is_declared_so(tmp_path):
    path = file(tmp_path, ROWS, "1, 256, 6")
    anysize.rewrite(path, tmp_path / "any.onnx")
    assert declared(tmp_path / "any.onnx") == ["batch", "y_axis_1", 6]
    report = anysize.validate(tmp_path / "any.onnx", path, runtimes=["ort-cpu"])
    assert report.exit_code == 0
    assert "fixed.onnx with its batch, height and width freed" in report.reference.name


def test_a_declared_number_that_does_not_come_is_a_wrong_shape(tmp_path):
    path = file(tmp_path, ROWS, "1, 256, 6")
    anysize.rewrite(path, tmp_path / "any.onnx")
    model = onnx.load(tmp_path / "any.onnx")
    dim = model.graph.output[0].type.tensor_type.shape.dim[1]
    dim.dim_value = 256
    onnx.save(model, tmp_path / "stale.onnx")
    report = anysize.validate(
        tmp_path / "stale.onnx", path, runtimes=["ort-cpu"], sizes="32x32,40x48"
    )
    assert verdicts(report) == {"32x32": "pass", "40x48": "shape"}
    wrong = next(cell for cell in report.cells if cell.verdict == "shape")
    assert "has shape (1, 480, 6), and the file declares (?, 256, 6)" in wrong.message


def test_a_freed_file_is_compared_with_its_freed_original(tmp_path):
    path = file(tmp_path, SKIP, "1, 3")
    anysize.rewrite(path, tmp_path / "any.onnx")
    sizes = "32x32,34x48,33x33,64x30"
    report = anysize.validate(tmp_path / "any.onnx", path, runtimes=["ort-cpu"], sizes=sizes)
    assert report.exit_code == 0
    passed = ["32x32", "34x48", "64x30"]
    assert verdicts(report) == {**dict.fromkeys(passed, "pass"), "33x33": "rejected"}


def test_a_crash_within_the_sizes_that_a_file_declares_is_an_error(tmp_path):
    """A file with an untrue declaration, as tools write them: any size, and odd sides crash."""
    path = file(tmp_path, SKIP, "1, 3")
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis != 1:
                dim.dim_param = f"side_{axis}"
    onnx.save(model, tmp_path / "untrue.onnx")
    report = anysize.validate(
        tmp_path / "untrue.onnx", path, runtimes=["ort-cpu"], sizes="32x32,33x33", batches=1
    )
    assert verdicts(report) == {"32x32": "pass", "33x33": "rejected"}  # it promises nothing
    write_metadata(model, FileMetadata(head="as-is", size=Size(32, 32), min_size=Size(1, 1)))
    onnx.save(model, tmp_path / "untrue.onnx")
    report = anysize.validate(
        tmp_path / "untrue.onnx", path, runtimes=["ort-cpu"], sizes="32x32,33x33", batches=1
    )
    assert verdicts(report) == {"32x32": "pass", "33x33": "error"}
    wrong = next(cell for cell in report.cells if cell.verdict == "error")
    assert "the file says that it takes this size, and does not" in wrong.message


def test_what_the_user_said_of_a_number_is_recorded_and_known_to_validate(tmp_path):
    body = """a = Conv (image, w) b = Relu (a) s = ReduceSum <keepdims = 0> (b, axes)
              y = Div (s, cells)"""
    path = file(tmp_path, body, "1, 3")
    model = onnx.load(path)
    for name, array in (("axes", np.array([2, 3])), ("cells", np.float32(1023.0))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    model.graph.node[-1].name = "divide"
    onnx.save(model, path)
    with pytest.raises(anysize.errors.DeclinedError, match="--keep divide"):
        anysize.rewrite(path, tmp_path / "any.onnx", to="dynamic")
    anysize.rewrite(path, tmp_path / "any.onnx", to="dynamic", keep=["divide"])
    assert read_metadata(onnx.load(tmp_path / "any.onnx")).kept == ("divide",)
    report = anysize.validate(tmp_path / "any.onnx", path, runtimes=["ort-cpu"], sizes="40x48")
    assert report.exit_code == 0


def test_an_old_file_s_unread_weights_are_no_inputs_of_its_copy(tmp_path):
    model = onnx.load(file(tmp_path, SKIP, "1, 3"))
    model.ir_version = 3
    unread = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "num_batches_tracked")
    model.graph.initializer.append(unread)
    for tensor in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    copy = keep_outputs(model, ["y"])
    assert [value.name for value in required_inputs(copy)] == ["image"]
    onnx.checker.check_model(copy)


def test_what_a_file_declares_is_its_training_size_whatever_else_is_given(tmp_path, capsys):
    from anysize.cli import main

    path, output = file(tmp_path, ROWS, "1, 256, 6"), tmp_path / "any.onnx"
    words = ["rewrite", str(path), "-o", str(output), "--to", "dynamic", "--size", "40x40"]
    assert main(words) == 0
    assert "declares 32x32, which is its training size; 40x40 was not needed" in " ".join(
        capsys.readouterr().err.split()
    )
    assert read_metadata(onnx.load(output)).size == Size(32, 32)
