"""The page of the parity environments: findings are expected, everything else is red."""

from __future__ import annotations

import dataclasses
import subprocess

import every_runtime
import pytest
from matrix_report import join_matrix, main

import anysize
from anysize.sizes import Size
from anysize.validators import JoinedReport, Verdict, join

pytest.importorskip("jinja2", reason="the page needs the extra report")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("matrix") / "lenet.onnx"
    anysize.export("lenet", path, head="gap", verify=False)
    return anysize.validate(path, runtimes="ort-cpu", sizes=[Size(32, 32)], batches=(1,))


@pytest.fixture
def write(found, tmp_path):
    """Write the report of an environment, as if its runtime had found `verdict`."""

    def written(runtime, name="lenet/gap.onnx", verdict=Verdict.PASS, head="gap"):
        report = dataclasses.replace(
            found,
            model=dataclasses.replace(found.model, path=name, head=head),
            runtimes=tuple(dataclasses.replace(r, name=runtime) for r in found.runtimes),
            cells=tuple(
                dataclasses.replace(cell, runtime=runtime, verdict=verdict, message="its words")
                for cell in found.cells
            ),
        )
        path = tmp_path / f"parity-{runtime}.json"
        path.write_text(join((report,)).to_json())
        return path

    return written


def test_the_runtimes_of_one_file_stand_beside_each_other(write):
    joined = join_matrix([write("ort-cpu"), write("tract"), write("mnn", "lenet/cam.onnx")])
    assert [(e.name, [r.name for r in e.report.runtimes]) for e in joined.entries] == [
        ("lenet/cam.onnx", ["mnn"]),
        ("lenet/gap.onnx", ["ort-cpu", "tract"]),
    ]
    assert joined.ok


def test_a_known_finding_is_shown_with_its_reason_and_is_not_red(write, tmp_path):
    write("ort-cpu", "lenet/roi.onnx", head="roi")
    write("tract", "lenet/roi.onnx", Verdict.UNSUPPORTED, head="roi")
    assert main(tmp_path) == 0
    joined = JoinedReport.from_json((tmp_path / "parity.json").read_text())
    assert joined.reason() == "what is not good is known and expected: 1 unsupported"
    (cell,) = (cell for cell in joined.cells if not cell.is_good)
    assert cell.message.startswith("known since 0.23.9: 'Unimplemented(RoiAlign)'")
    assert cell.message.endswith("its words")
    page = (tmp_path / "parity.html").read_text()
    assert "known since 0.23.9" in page
    assert "lenet/roi.onnx" in page


@pytest.mark.parametrize(
    ("runtime", "verdict", "head", "code"),
    [
        ("ort-cpu", Verdict.MISMATCH, "gap", 1),
        ("ort-cpu", Verdict.CRASHED, "gap", 3),
        ("tract", Verdict.PASS, "roi", 1),
    ],
    ids=["wrong", "not run", "a finding that has healed"],
)
def test_what_is_no_finding_is_red(write, tmp_path, runtime, verdict, head, code):
    write(runtime, f"lenet/{head}.onnx", verdict, head)
    assert main(tmp_path) == code


@pytest.mark.parametrize("text", ["", '{"entries": [], "schema_version": 1}', "{"])
def test_an_environment_that_began_and_left_no_report_is_red(write, tmp_path, capsys, text):
    write("ort-cpu")
    (tmp_path / "parity-tract.json").write_text(text)
    assert main(tmp_path) == 3
    assert "parity-tract" in capsys.readouterr().out


def test_a_folder_without_reports_is_red(tmp_path):
    assert main(tmp_path) == 3


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((1, 0), 1), ((0, 4), 4)], ids=["green", "red", "broken"]
)
def test_every_runtime_runs_and_the_first_failure_counts(
    write, tmp_path, monkeypatch, codes, expected
):
    asked = []

    def run(command, *, env, check):
        runtime = env["ANYSIZE_RUNTIME"]
        asked.append((runtime, command[-1], check))
        write(runtime)
        return subprocess.CompletedProcess(command, codes[len(asked) - 1])

    monkeypatch.setattr(every_runtime.subprocess, "run", run)
    assert every_runtime.main(tmp_path, ["ort-cpu", "tract"], ["tests/parity"]) == expected
    assert asked == [("ort-cpu", "tests/parity", False), ("tract", "tests/parity", False)]


def test_a_runtime_whose_run_breaks_off_is_missed(write, tmp_path, monkeypatch):
    def run(command, *, env, check):
        del check
        if env["ANYSIZE_RUNTIME"] == "ort-cpu":
            write("ort-cpu")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(every_runtime.subprocess, "run", run)
    assert every_runtime.main(tmp_path, ["ort-cpu", "tract"], []) != 0
