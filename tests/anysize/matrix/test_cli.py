"""`anysize matrix`: a TOML file's jobs, each on its own, resumed and joined."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import onnx
import pytest

from anysize.errors import UsageError
from anysize.sizes import Size
from anysize.verbs.matrix_runs.plan import read_matrix

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


HEADS = 'heads = ["gap"]'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "matrix.toml"
    path.write_text(CONFIG)
    return path


def test_models_heads_and_settings_become_jobs(config):
    config.write_text(CONFIG.replace('"gap"', '"gap", "spp"').replace("file =", "seed = 7\nfile ="))
    jobs = read_matrix(config)
    assert [job.name for job in jobs] == ["digits-gap", "digits-spp", "missing.onnx"]
    assert [job.spec.seed for job in jobs] == [0, 0, 7]
    assert jobs[2].model.file == str(config.parent / "missing.onnx")
    assert {job.spec.sizes for job in jobs} == {(Size(32, 32),)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("runtimes", "runtime"), r"key 'runtime' is unknown; did you mean runtimes\?"),
        (("heads", "head"), r"model 1: key 'head' is unknown; did you mean heads\?"),
        (("file", "zzz"), "model 2: key 'zzz' is unknown; known are runtimes, .*, source, file"),
        (("[1]", "[0]"), r"line 4: batches is \[0\], expected a list of whole numbers from 1 to"),
        (("[1]", "[1, 1025]"), r"line 4: batches is \[1, 1025\], expected .* from 1 to 1024"),
        (("[1]", "1"), "batches is 1, expected a list of whole numbers"),
        (('"32x32"', '"32x"'), "line 3: sizes: size '32x': expected HEIGHTxWIDTH"),
        (('"ort-cpu"', '"ort"'), "line 2: runtimes: runtime 'ort': unknown"),
        (('source = "digits"', 'file = "x.onnx"'), "model 1: heads is for a source"),
        *(
            ((HEADS, f"{HEADS}\n{key} = {value}"), f"model 1: {key}.* expected {words}")
            for key, value, words in (
                ("seed", "-1", "a whole number from 0 on"),
                ("seed", "0x1" + "0" * 5000, "a whole number from 0 on"),
                ("atol", "-1e-3", "a number from 0 on"),
                ("atol", "nan", "a number from 0 on"),
                ("atol", "1" + "0" * 400, "a number from 0 on"),
                ("rtol", "inf", "a number from 0 on"),
                ("rtol", "{map = -1}", "a number from 0 on"),
                ("rtol", "{map = true}", "a number from 0 on"),
                ("size", '"32x"', "HEIGHTxWIDTH"),
                ("max_size", '"32x"', "HEIGHTxWIDTH"),
                ("opset", '"18"', "a whole number"),
                ("name", '""', "1 to 50 printable letters"),
                ("name", f'"{"x" * 51}"', "1 to 50 printable letters"),
                ("name", '"a\\nb"', "1 to 50 printable letters"),
            )
        ),
        *(
            (('file = "missing.onnx"', f'file = "missing.onnx"\n{key}'), "model 2: .* for a source")
            for key in ('size = "32x32"', 'min_size = "9x9"', 'max_size = "9x9"', "opset = 18")
        ),
        (
            (HEADS, 'min_size = "9x9"\nmax_size = "8x8"'),
            "model 1: max_size: largest size 8x8 is below",
        ),
        (('file = "missing.onnx"', "seed = 1"), "give either source or file"),
        (
            ('file = "missing.onnx"', 'source = "digits"\nheads = ["gap"]'),
            "digits-gap is there twice; give each of the models a name",
        ),
        (
            (CONFIG, '[[model]]\nsource = "a:b"\n[[model]]\nsource = "a-b"\n'),
            "a-b.onnx is there twice",
        ),
        (("[[model]]", "[[model"), "is no TOML"),
        (("[[model]]", "[[job]]"), "names no model"),
        ((CONFIG, "[model]\nsource = 'digits'"), "model is {.*}, expected tables .* \\[\\[model"),
        ((CONFIG, "model = [3]"), "model 1: Expected `object`, got `int`"),
        ((CONFIG, "model = 3"), "line 1: model is 3, expected tables of their own"),
        ((CONFIG, '[[model]]\nsource = "a"\n[model.atol]\nb = -1'), "line 3, model 1: atol is"),
        (
            (CONFIG, '[[model]]\n"a\\nb - at `$.x`" = 1'),
            "line 1, model 1: key 'a.nb - at .*unknown",
        ),
        (("batches = [1]", "seed = true"), "seed is True, expected a whole number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_understood_is_refused_in_one_line(config, change, words):
    config.write_text(CONFIG.replace(*change))
    with pytest.raises(UsageError, match=words) as caught:
        read_matrix(config)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(config))


def test_a_file_under_two_names_is_two_jobs(config):
    twice = [f'[[model]]\nname = "{name}"\nfile = "own.onnx"\n' for name in ("loose", "exact")]
    config.write_text(f"{twice[0]}rtol = 1e-2\n{twice[1]}")
    jobs = read_matrix(config)
    assert [(job.name, Path(job.model.file).name) for job in jobs] == [
        ("loose", "own.onnx"),
        ("exact", "own.onnx"),
    ]


def test_a_name_is_that_of_the_exported_file(config):
    config.write_text('[[model]]\nsource = "lenet"\nname = "my net/2"\n')
    (job,) = read_matrix(config)
    assert (job.name, job.exported_name) == ("my net/2", "my-net-2.onnx")
    config.write_text('[[model]]\nsource = "lenet"\nname = "a"\nheads = ["fc", "fcn", "fc"]\n')
    assert [job.name for job in read_matrix(config)] == ["a-fc", "a-fcn"]


def test_a_config_that_is_no_regular_file_or_too_large_is_refused_at_once(tmp_path, run):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_text("#" * (1 << 20) + "\n")
    for path, words in (
        ("/dev/zero", "is a device or a pipe, expected a regular file"),
        (tmp_path / "fifo", "is a device or a pipe, expected a regular file"),
        (tmp_path / "large", "is larger than 1048576 bytes"),
        (tmp_path / "missing", "No such file or directory"),
    ):
        done = run("matrix", path)
        assert done.code == 2
        assert done.errors[-1].startswith(f"anysize: error: matrix {path}: {words}")


@pytest.mark.parametrize("option", ["--json", "--junit", "--markdown", "--html"])
@pytest.mark.parametrize(
    "name", ["own.onnx", "own.onnx.data", "other.onnx", "other.onnx.data", "w.pt", "matrix.toml"]
)
def test_a_report_in_the_place_of_an_input_is_refused(config, run, digits_files, name, option):
    folder = config.parent
    for own in ("own.onnx", "other.onnx"):
        place = {"location": f"{own}.data", "size_threshold": 0}
        model = onnx.load(digits_files["gap"])
        onnx.save(model, folder / own, save_as_external_data=True, **place)
    (folder / "w.pt").write_bytes(b"weights")
    config.write_text(
        '[[model]]\nfile = "own.onnx"\nreference = "other.onnx"\n'
        '[[model]]\nsource = "lenet"\nweights = "w.pt"\n'
    )
    before = (folder / name).read_bytes()
    done = run("matrix", config, option, folder / name)
    assert done.code == 2
    assert "would overwrite the input" in done.err
    assert (folder / name).read_bytes() == before
    assert not (folder / "matrix.reports").exists()


def test_an_export_in_the_place_of_an_input_is_refused(config, run, digits_files):
    own = config.with_name("own.onnx")
    own.write_bytes(digits_files["gap"].read_bytes())
    config.write_text('[[model]]\nfile = "own.onnx"\n[[model]]\nname = "own"\nsource = "lenet"\n')
    done = run("matrix", config, "--folder", config.parent)
    assert done.code == 2
    assert "would overwrite the input" in done.err
    assert own.read_bytes() == digits_files["gap"].read_bytes()


def test_an_opset_that_no_file_has_is_refused_before_any_job_runs(config, run):
    config.write_text(CONFIG.replace(HEADS, f"{HEADS}\nopset = 99"))
    done = run("matrix", config)
    assert (done.code, len(done.errors)) == (2, 1)
    assert f"matrix {config}, line 9, model 1: opset 99: expected 13 to 24" in done.err


def test_a_module_of_the_user_s_own_is_exported_at_its_size(config, run, small_folder, monkeypatch):
    monkeypatch.chdir(small_folder)
    model = 'source = "small_net:make"\nname = "small"\nsize = "32x32"\nopset = 17'
    config.write_text(f'[[model]]\n{model}\nmax_size = "32x32"\nsizes = ["32x32", "40x40"]\n')
    done = run("matrix", config, "--json", "-")
    assert done.code == 0, done.err
    (entry,) = json.loads(done.out)["entries"]
    assert entry["name"] == "small"
    verdicts = {cell["size"]: cell["verdict"] for cell in entry["report"]["cells"]}
    assert verdicts == {"32x32": "pass", "40x40": "rejected"}
    exported = onnx.load(config.parent / "matrix.reports" / "small.onnx")
    assert exported.opset_import[0].version == 17
    described = {entry.key: entry.value for entry in exported.metadata_props}
    assert (described["anysize.size"], described["anysize.max_size"]) == ("32x32", "32x32")


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


def test_a_job_whose_weights_changed_is_not_taken_over(config, run, digits_files):
    model = onnx.load(digits_files["gap"])
    path = config.with_name("own.onnx")
    place = {"location": "own.data", "size_threshold": 256}
    onnx.save(model, path, save_as_external_data=True, **place)
    config.write_text(f'sizes = ["32x32"]\nbatches = [1]\n[[model]]\nfile = "{path.name}"\n')
    assert run("matrix", config).code == 0
    data = path.with_name("own.data")
    data.write_bytes(bytes(data.stat().st_size))
    done = run("matrix", config, "--resume")
    assert "[0/1]" in done.err
    assert done.code == 1


def test_a_job_whose_file_changes_while_it_runs_is_not_kept(config, run, monkeypatch):
    from anysize.verbs import matrix_runs

    keys = iter("abcd")
    monkeypatch.setattr(matrix_runs, "job_keys", lambda jobs, _: {job: next(keys) for job in jobs})
    config.write_text(CONFIG.partition("[[model]]\nfile")[0])
    assert run("matrix", config).code == 0
    assert not list((config.parent / "matrix.reports").glob("*.json"))


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
