"""`anysize runtimes` on the command line."""

from __future__ import annotations

import json

import pytest

from anysize.validators import RUNTIMES


@pytest.fixture
def without_tract(tmp_path, monkeypatch):
    (tmp_path / "tract.py").write_text("raise ImportError('not here')")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_missing_runtime_is_shown_with_the_command_that_installs_it(without_tract, run):
    done = run("runtimes")
    assert done.code == 0
    (row,) = [line for line in done.out.splitlines() if "│ tract" in line]
    assert "does not run here" in row
    reason = "tract cannot be imported: not here"
    line = f"tract: {reason}; install it with: pip install 'anysize[tract]'"
    assert line in done.out.splitlines()


def test_as_json_every_runtime_is_listed(without_tract, run):
    entries = {entry["name"]: entry for entry in json.loads(run("runtimes", "--json").out)}
    assert set(entries) == set(RUNTIMES)
    assert entries["ort-cpu"]["version"]
    assert entries["tract"]["install"] == "pip install 'anysize[tract]'"
    assert not entries["tract"]["is_available"]


def test_a_gpu_provider_that_does_not_run_exits_3_in_its_own_words(run, tmp_path, monkeypatch):
    entries = {entry["name"]: entry for entry in json.loads(run("runtimes", "--json").out)}
    if entries["ort-cuda"]["is_available"]:
        pytest.skip("CUDA runs here")
    monkeypatch.chdir(tmp_path)
    run("export", "lenet", "--head", "gap", "--no-verify", "-o", "gap.onnx")
    command = "validate gap.onnx --runtimes ort-cuda,ort-cpu --sizes 32x32 --batches 1"
    for words, profile in (((), "strict"), (("--tf32",), "tf32")):
        done = run(*command.split(), *words, "--json", "-")
        assert done.code == 3
        report = json.loads(done.out)
        assert [record["profile"] for record in report["runtimes"]] == [profile, "strict"]
        cuda, cpu = report["cells"]
        assert (cuda["verdict"], cpu["verdict"]) == ("unavailable", "pass")
        assert "CUDAExecutionProvider does not" in cuda["message"]


def test_an_unknown_runtime_exits_2_with_the_known_ones(run, tmp_path):
    done = run("validate", str(tmp_path / "none.onnx"), "--runtimes", "ort-cpu,tensorflow")
    assert done.code == 2
    assert "runtime 'tensorflow': unknown; known are ort-cpu, ort-cuda, ort-tensorrt, " in done.err
