"""`anysize validate`: what it compares with, what it writes, how it exits."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch

import anysize

SIZES = ("--sizes", "32x32,41x37")


def test_a_rewritten_file_is_proved_against_the_model_that_it_names(rewritten_digits, run):
    done = run("validate", rewritten_digits, *SIZES, "--json", "-")
    assert done.code == 0
    report = json.loads(done.out)
    assert report["reference"]["name"] == "digits"
    assert report["reference"]["kind"] == "windows"
    assert [cell["verdict"] for cell in report["cells"]] == ["pass"] * 4


def test_an_exported_fcn_file_is_proved_window_by_window(digits_files, run):
    done = run("validate", digits_files["fcn"], *SIZES, "--json", "-")
    assert done.code == 0
    assert json.loads(done.out)["reference"]["kind"] == "windows"


@pytest.mark.parametrize("reference", ["digits", "original"])
def test_a_rewritten_file_is_proved_against_a_reference_that_is_given(
    rewritten_digits, digits_files, run, reference
):
    named = digits_files["fc"] if reference == "original" else reference
    done = run("validate", rewritten_digits, "--reference", named, *SIZES)
    assert (done.code, done.errors) == (0, [])
    assert "4 of 4 cells good, 4 passed" in done.out


def test_another_model_is_no_match(rewritten_digits, run, tmp_path):
    other = tmp_path / "other.onnx"
    anysize.export("lenet", other, head="fc", verify=False)
    done = run("validate", rewritten_digits, "--reference", other, *SIZES)
    assert done.code == 1


@pytest.mark.parametrize("name", ["fc", "fcn", "gap"])
def test_changed_weights_are_found(digits_files, run, tmp_path, name):
    model = onnx.load(digits_files[name])
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(tensor)[::-1].copy()
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    changed = tmp_path / "changed.onnx"
    onnx.save(model, changed)
    done = run("validate", changed, "--sizes", "32x32")
    assert done.code == 1
    assert "mismatch" in done.out
    assert "do not ship this file" in done.out


def test_an_fc_file_is_rejected_outside_its_interval_on_both_sides(digits_files, run):
    done = run("validate", digits_files["fc"], "--sizes", "31x32,32x32,35x35,36x35", "--json", "-")
    assert done.code == 0
    verdicts = {cell["size"]: cell["verdict"] for cell in json.loads(done.out)["cells"]}
    assert verdicts == {
        "31x32": "rejected",
        "32x32": "pass",
        "35x35": "pass",
        "36x35": "rejected",
    }


def test_json_is_the_same_on_stdout_and_in_a_file(digits_files, run, tmp_path):
    path = tmp_path / "report.json"
    on_stdout = run("validate", digits_files["gap"], *SIZES, "--json", "-")
    in_file = run("validate", digits_files["gap"], *SIZES, "--json", path)
    first, second = json.loads(on_stdout.out), json.loads(path.read_text())
    for report in (first, second):
        for cell in report["cells"]:
            cell.pop("run_s")
    assert first == second
    assert "4 of 4 cells good" in in_file.out


def test_junit_has_one_case_for_each_cell(digits_files, run, tmp_path):
    path = tmp_path / "report.xml"
    done = run("validate", digits_files["gap"], *SIZES, "--junit", path)
    assert done.code == 0
    assert len(list(ET.parse(path).iter("testcase"))) == 4


def test_all_runtimes_are_compared(digits_files, run):
    done = run("validate", digits_files["gap"], "--sizes", "32x32", "--runtimes", "all")
    assert done.code == 0
    assert "onnx-reference" in done.out


def test_the_tolerance_can_be_replaced(digits_files, run):
    options = ("--atol", "0", "--rtol", "0", "--sizes", "64x64")
    assert run("validate", digits_files["gap"], *options).code == 1
    options = ("--atol", "1e-3", "--sizes", "64x64", "--arbiter", "none")
    assert run("validate", digits_files["gap"], *options).code == 0


def test_the_tolerance_of_one_output_can_be_replaced(run, tmp_path):
    path = tmp_path / "cam.onnx"
    anysize.export("lenet", path, head="cam", verify=False)
    options = ("--sizes", "32x32", "--batches", "1", "--json", "-")
    done = run("validate", path, "--atol", "map:0", *options)
    assert done.code == 1
    (cell,) = json.loads(done.out)["cells"]
    within = {o["name"]: o["deviation"]["ratio"] for o in cell["outputs"]}
    assert within["logits"] < 1
    assert within["map"] == "Infinity"
    done = run("validate", path, "--atol", "0", "--atol", "map:1e-3", *options)
    (cell,) = json.loads(done.out)["cells"]
    within = {o["name"]: o["deviation"]["ratio"] for o in cell["outputs"]}
    assert within["logits"] == "Infinity"
    assert within["map"] < 1


def test_a_report_does_not_overwrite_external_weights(run, tmp_path):
    path = tmp_path / "m.onnx"
    anysize.export("lenet", path, head="cam", verify=False, external_data="always")
    (weights,) = (one for one in tmp_path.iterdir() if one != path)
    before = weights.read_bytes()
    done = run("validate", path, "--sizes", "32x32", "--json", weights)
    assert done.code == 2
    assert "would overwrite the input" in done.err
    assert weights.read_bytes() == before


def test_a_folder_that_no_input_can_be_saved_in_is_refused_at_once(digits_files, tmp_path):
    with pytest.raises(anysize.AnysizeError, match="is no folder; create it first"):
        anysize.validate(digits_files["gap"], sizes="32x32", bisect=tmp_path / "missing")


def test_python_takes_the_words_of_the_command_line(digits_files):
    report = anysize.validate(digits_files["gap"], sizes=["32x32", (41, 37)], batches=1)
    assert report.ok
    assert [str(cell.size) for cell in report.cells] == ["32x32", "41x37"]
    inputs = {"input": np.random.default_rng(0).normal(size=(2, 1, 32, 40)).astype(np.float32)}
    assert anysize.validate(digits_files["gap"], inputs=inputs).cells[0].batch == 2
    with pytest.raises(anysize.AnysizeError, match="got ModelProto, expected the path"):
        anysize.validate(onnx.load(digits_files["gap"]))


def test_a_reference_on_a_device_that_does_not_compute_exits_3(digits_files, run):
    if torch.cuda.is_available():
        pytest.skip("CUDA runs here")
    done = run("validate", str(digits_files["gap"]), "--reference-device", "cuda")
    assert done.code == 3
    assert "--reference-device cuda: PyTorch" in done.err
    assert len(done.errors) == 1


def test_an_onnx_reference_has_no_device(digits_files, run):
    path = str(digits_files["gap"])
    done = run("validate", path, "--reference", path, "--reference-device", "cuda")
    assert done.code == 2
    assert "is an ONNX file" in done.err


def test_sizes_auto_is_the_default(digits_files, run):
    done = run("validate", digits_files["gap"], "--batches", "1", "--json", "-")
    assert done.code == 0
    sizes = {cell["size"]: cell["verdict"] for cell in json.loads(done.out)["cells"]}
    assert {"32x32", "33x33", "64x64", "20x20"} <= sizes.keys()
    assert sizes["19x20"] == "rejected"


def test_the_python_call_takes_the_same_words(rewritten_digits, digits_files):
    report = anysize.validate(
        rewritten_digits, digits_files["fc"], sizes=[anysize.Size(32, 32)], batches=[3]
    )
    assert report.ok
    assert [cell.batch for cell in report.cells] == [3]


def test_runtimes_are_listed(run):
    done = run("runtimes", "--json")
    assert {"ort-cpu", "onnx-reference"} <= {entry["name"] for entry in json.loads(done.out)}
    assert "ort-cpu" in run("runtimes").out
