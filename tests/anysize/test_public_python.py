"""What the command line has, Python has: matrix, report, runtimes; and a report shows itself."""

from __future__ import annotations

import json
import re
import sys

import pytest

import anysize
from anysize.errors import UsageError
from anysize.validators import RUNTIMES
from anysize.validators.worker import known


@pytest.fixture(scope="module")
def found(digits_files):
    return anysize.validate(digits_files["fcn"], sizes=[32, (40, 36)], batches=1)


@pytest.fixture
def config(tmp_path, digits_files):
    path = tmp_path / "matrix.toml"
    path.write_text(
        f'sizes = [32]\nbatches = [1]\nruntimes = ["ort-cpu", "onnx-reference"]\n'
        f'[[model]]\nfile = "{digits_files["gap"]}"\nname = "mine"\n'
        '[[model]]\nsource = "lenet"\nheads = ["gap"]\n[[model]]\nfile = "gone.onnx"\n'
    )
    return path


def test_a_plan_names_jobs_times_and_what_stands_in_the_way(config, run):
    plan = anysize.plan_matrix(config)
    mine, source, gone = plan.jobs
    assert (mine.name, mine.runtimes, mine.problem) == ("mine", ("ort-cpu", "onnx-reference"), "")
    assert mine.estimated_s > 0
    assert (source.name, source.head, source.is_estimate) == ("lenet-gap", "gap", True)
    assert 5 < source.estimated_s < 60
    assert "gone.onnx" in gone.problem
    assert plan.exit_code == 2
    done = run("matrix", config, "--plan")
    assert done.code == 2
    assert re.search(
        r"^mine: about \d+ s by estimate, on ort-cpu, onnx-reference$", done.out, re.MULTILINE
    )
    assert "3 jobs: about" in done.out
    assert " by estimate, one after another" in done.out
    assert not config.with_suffix(".reports").exists()
    assert (
        json.loads(run("matrix", config, "--plan", "--json", "-").out)["jobs"][0]["name"] == "mine"
    )
    assert run("matrix", config, "--plan", "--html", config.with_name("x.html")).code == 2


def test_a_matrix_runs_from_python_and_ends_with_jobs_by_runtimes(config, run):
    said = []
    joined = anysize.matrix(
        config, progress=lambda done, total, text: said.append((done, total, text))
    )
    assert [entry.exit_code for entry in joined.entries] == [0, 0, 2]
    assert all(done <= total == 3 for done, total, _ in said)
    # The file that is not there is said before the first job, and names of those that run after.
    assert "gone.onnx" in said[0][2]
    texts = [text for _, _, text in said]
    assert any(text.startswith("running mine") for text in texts)
    assert any(text.startswith("running lenet-gap, about") for text in texts)
    folder = config.with_suffix(".reports")
    assert sorted(path.name for path in folder.iterdir()) == [
        "lenet-gap.json", "lenet-gap.onnx", "mine.json",
    ]  # fmt: skip
    table = str(joined).partition("jobs\n")[2]
    assert re.search(r"mine\s+│ \d+ pass\s+│ \d+ pass", table)
    assert re.search(r"gone\.onnx\s+│ did not run\s+│ did not run", table)
    # What was measured is what the next plan says.
    again = anysize.plan_matrix(config, resume=True)
    assert [job.is_kept for job in again.jobs] == [True, True, False]
    assert again.jobs[1].estimated_s == pytest.approx(joined.entries[1].run_s)
    assert not again.jobs[1].is_estimate


def test_a_source_that_never_ran_is_estimated_by_its_layers_sizes_and_runtimes(config, run):
    def planned(runtime, size, source="lenet"):
        config.write_text(
            f'runtimes = ["{runtime}"]\nsizes = [{size}]\n[[model]]\nsource = "{source}"\n'
        )
        return anysize.plan_matrix(config).jobs[0]

    quick, slow = planned("ort-cpu", 3000), planned("onnx-reference", 3000)
    small = planned("ort-cpu", 32)
    assert small.estimated_s < quick.estimated_s < slow.estimated_s
    assert planned("ort-cpu", 32, "no_such_package:net").problem.startswith("model no_such_package")
    config.write_text('[[model]]\nsource = "lenet"\nheads = ["roi"]\n')
    assert anysize.plan_matrix(config).jobs[0].estimated_s is None  # it takes more than an image
    assert "not estimated, on ort-cpu\n" in run("matrix", config, "--plan").out


def test_reports_are_joined_from_python(tmp_path, found):
    path = tmp_path / "r.json"
    path.write_text(found.to_json())
    joined = anysize.report(path, path)
    assert joined.reports == (found, found)
    with pytest.raises(UsageError, match="give a file that --json wrote"):
        anysize.report(tmp_path)


def test_runtimes_are_listed_from_python():
    assert {runtime.name for runtime in anysize.runtimes()} == set(RUNTIMES)


def test_two_builds_of_a_runtime_in_one_environment_are_told_and_mended(monkeypatch, run):
    held = {"onnxruntime": ["onnxruntime-gpu", "onnxruntime"], "other": ["other"]}
    monkeypatch.setattr(known.metadata, "packages_distributions", lambda: held)
    words = known.overwritten("onnxruntime")
    assert "onnxruntime and onnxruntime-gpu are both installed and overwrite" in words
    assert words.endswith(
        "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
    )
    assert known.overwritten("other") == ""
    monkeypatch.setattr(known, "known_runtimes", lambda: {"ort-cpu": RUNTIMES["ort-cpu"]})
    done = run("runtimes")
    assert words in done.err
    assert words == json.loads(run("runtimes", "--json").out)[0]["warning"]


def test_a_report_prints_itself_as_the_command_line_does(found, tmp_path, run):
    path = tmp_path / "r.json"
    path.write_text(found.to_json())
    printed = [line.rstrip() for line in run("report", path).out.splitlines()]
    assert "2 of 2 cells good, 2 passed" in printed
    assert f"{found}".splitlines() == printed


def test_a_notebook_shows_the_page_in_a_frame(found, monkeypatch):
    shown = found._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!')
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert found._repr_html_().startswith("<pre>")


def test_a_report_is_a_dataframe_where_pandas_is_installed(found, monkeypatch):
    pandas = pytest.importorskip("pandas")
    frame = found.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == sum(max(len(cell.outputs), 1) for cell in found.cells)
    assert set(zip(frame.height, frame.width, strict=True)) == {(32, 32), (40, 36)}
    assert (frame.error <= frame.budget).all()
    assert set(frame.verdict) == {"pass"}
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        found.to_dataframe()


def test_a_source_is_inspected_and_every_head_it_can_get_is_one_that_is_written(tmp_path, run):
    done = run("inspect", "lenet", "--model-args", '{"num_classes": 4}', "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["path"] == "lenet"
    heads = {one["head"]: one for one in facts["heads"]}
    assert set(heads) == {"fcn", "adaptive", "resize"}
    assert heads["fcn"]["meaning"].startswith("exact: each cell")
    assert "approximation" in heads["adaptive"]["meaning"]
    for name, one in heads.items():
        options = """--model-args '{"num_classes": 4}'"""
        assert one["command"] == f"anysize export lenet --head {name} {options} -o {name}.onnx"
        out = tmp_path / f"{name}.onnx"
        written = anysize.export(
            "lenet", out, head=name, model_args={"num_classes": 4}, verify=False
        )
        assert str(written.sizes.minimum) == one["sizes"]["minimum"]
        assert ("map_height" in one["outputs"][0]) == (written.outputs == ("map",))


def test_inspect_counts_what_each_part_costs(digits_files):
    inspection = anysize.inspect(digits_files["gap"], [32, 64], layers=True)
    by_part = {(str(cost.size), cost.part): cost for cost in inspection.costs}
    small, large = by_part["32x32", "features"], by_part["64x64", "features"]
    assert set(by_part) == {(s, p) for s in ("32x32", "64x64") for p in ("features", "head")}
    # Four times the pixels, and a little more, since no convolution pads.
    assert 4 < large.multiply_adds / small.multiply_adds < 8
    assert large.activation_bytes > 3 * small.activation_bytes
    assert by_part["32x32", "head"].multiply_adds == by_part["64x64", "head"].multiply_adds
    assert sum(layer.multiply_adds for layer in inspection.layers) == sum(
        cost.multiply_adds for cost in inspection.costs if str(cost.size) == "32x32"
    )
    first = next(layer for layer in inspection.layers if layer.operator == "Conv")
    assert first.multiply_adds == first.output[1] * first.output[2] * first.output[3] * 9
    # Of the two first maps, which are alive at once where no kernel works in place.
    assert small.activation_bytes >= 2 * 4 * first.output[1] * first.output[2] * first.output[3]


def test_inspect_of_a_missing_file_says_so(run):
    done = run("inspect", "gone.onnx")
    assert done.code == 2
    assert "gone.onnx" in done.err
