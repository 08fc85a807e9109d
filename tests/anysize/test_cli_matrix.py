"""`anysize matrix`: a TOML file's jobs, each on its own, resumed and joined."""

from __future__ import annotations

import json
import sys

import pytest

from anysize.errors import UsageError
from anysize.validators.matrix_plan import job_key, read_matrix

CONFIG = """
runtimes = ["ort-cpu"]
sizes = ["32x32"]
batches = [1]

[[model]]
source = "digits"
heads = ["gap"]

[[model]]
file = "missing.onnx"
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "matrix.toml"
    path.write_text(CONFIG)
    return path


def test_models_heads_and_settings_become_jobs(config):
    config.write_text(CONFIG.replace('"gap"', '"gap", "spp"').replace("file =", "seed = 7\nfile ="))
    jobs = read_matrix(config)
    assert [job.name for job in jobs] == ["digits-gap", "digits-spp", "missing.onnx"]
    assert [job.seed for job in jobs] == [0, 0, 7]
    assert jobs[2].file == str(config.parent / "missing.onnx")
    assert {job.sizes for job in jobs} == {("32x32",)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("runtimes", "runtime"), r"key 'runtime' is unknown; did you mean runtimes\?"),
        (("heads", "head"), r"model 1: key 'head' is unknown; did you mean heads\?"),
        (("file", "zzz"), "key 'zzz' is unknown; known are source, file"),
        (("[1]", "[0]"), "batches are"),
        (("[1]", "1"), "batches is 1, expected a list of whole numbers"),
        (('"32x32"', '"32"'), "expected HEIGHTxWIDTH"),
        (('"ort-cpu"', '"ort"'), "runtime 'ort': unknown"),
        (('source = "digits"', 'file = "x.onnx"'), "heads are for a source"),
        (('file = "missing.onnx"', "seed = 1"), "give either source or file"),
        (
            ('file = "missing.onnx"', 'source = "digits"\nheads = ["gap"]'),
            "digits-gap is there twice",
        ),
        (("[[model]]", "[[model"), "is no TOML"),
        (("[[model]]", "[[job]]"), "names no model"),
        (("batches = [1]", "seed = true"), "seed is True, expected a whole number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_understood_is_refused_in_one_line(config, change, words):
    config.write_text(CONFIG.replace(*change))
    with pytest.raises(UsageError, match=words) as caught:
        read_matrix(config)
    assert "\n" not in str(caught.value)


def test_a_job_s_key_changes_with_its_settings_and_its_file(config):
    keys = [job_key(job) for job in read_matrix(config)]
    assert len(set(keys)) == 2
    assert [job_key(job) for job in read_matrix(config)] == keys
    (config.parent / "missing.onnx").write_bytes(b"x")
    assert [a == b for a, b in zip(keys, map(job_key, read_matrix(config)), strict=True)] == [
        True,
        False,
    ]


def test_a_job_that_cannot_be_used_does_not_stop_the_others_and_the_rest_resumes(config, run):
    done = run("matrix", config, "--json", "-")
    assert done.code == 2
    first, second = json.loads(done.out)["entries"]
    assert (first["exit_code"], first["report"]["ok"]) == (0, True)
    assert "missing.onnx" in second["error"]
    kept = list((config.parent / "matrix.reports").glob("*.json"))
    assert len(kept) == 1
    text = kept[0].read_text()
    kept[0].write_text(text.replace('"device": "cpu"', '"device": "kept"'))
    again = run("matrix", config, "--resume", "--json", "-")
    assert json.loads(again.out)["entries"][0]["report"]["runtimes"][0]["device"] == "kept"
    kept[0].write_text("{")
    config.write_text(CONFIG.partition("[[model]]\nfile")[0])
    page = config.parent / "page.md"
    assert run("matrix", config, "--resume", "--markdown", page).code == 0
    assert page.read_text().startswith("# ✅ 1 of 1 cells good")


def test_without_ray_the_engine_says_what_to_install(config, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("matrix", config, "--engine", "ray")
    assert done.code == 2
    assert "pip install 'anysize[ray]'" in done.err


@pytest.mark.slow
def test_a_ray_cluster_runs_the_jobs_and_outlives_one_that_dies(config, run, monkeypatch):
    pytest.importorskip("ray", reason="needs anysize[ray]")
    (config.parent / "deadly_net.py").write_text("import os\n\n\ndef make():\n    os._exit(9)\n")
    dying = CONFIG.replace('file = "missing.onnx"', 'source = "deadly_net:make"')
    config.write_text(f'{dying}\n[[model]]\nsource = "lenet"\nheads = ["gap"]\n')
    monkeypatch.chdir(config.parent)
    done = run("matrix", config.name, "--engine", "ray", "--jobs", "2", "--json", "-")
    assert done.code == 3
    first, second, third = json.loads(done.out)["entries"]
    for entry in (first, third):
        assert (entry["exit_code"], entry["report"]["ok"]) == (0, True)
    assert "process died" in second["error"]
    # What ran on the cluster is taken over by the processes of this machine.
    config.write_text(CONFIG.partition("[[model]]\nfile")[0])
    again = run("matrix", config, "--resume", "--json", "-")
    assert again.code == 0
    assert "0/1" not in again.err


@pytest.mark.slow
def test_a_job_whose_process_dies_takes_nothing_else_down(config, run, monkeypatch):
    (config.parent / "deadly_net.py").write_text("import os\n\n\ndef make():\n    os._exit(9)\n")
    config.write_text(CONFIG.replace('file = "missing.onnx"', 'source = "deadly_net:make"'))
    monkeypatch.chdir(config.parent)
    done = run("matrix", config, "--jobs", "2", "--json", "-")
    assert done.code == 3
    first, second = json.loads(done.out)["entries"]
    assert first["exit_code"] == 0
    assert "process died" in second["error"]
