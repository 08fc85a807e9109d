"""The table of findings can turn the matrix red, in both directions."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from findings import FINDINGS, Finding, complaints

import anysize
from anysize.sizes import Size
from anysize.validators import RUNTIMES, Verdict, list_runtimes


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("findings") / "lenet-gap.onnx"
    anysize.export("lenet", path, head="gap", verify=False)
    sizes = [Size(15, 16), Size(32, 32)]
    return anysize.validate(path, runtimes="ort-cpu", sizes=sizes, batches=(1,))


def finding(verdict, size="*", model="lenet"):
    return (Finding("ort-cpu", "1", model, "gap", size, verdict, "it is a Tuesday"),)


def spoiled(report, verdict):
    cells = [dataclasses.replace(cell, verdict=verdict) for cell in report.cells]
    return dataclasses.replace(report, cells=tuple(cells))


def test_a_healthy_report_has_no_complaint(report):
    assert [cell.verdict for cell in report.cells] == [Verdict.REJECTED, Verdict.PASS]
    assert complaints(report, "lenet", "gap", ()) == []


def test_a_bad_cell_that_no_finding_covers_is_a_complaint(report):
    wrong = spoiled(report, Verdict.MISMATCH)
    for table in ((), finding(Verdict.MISMATCH, model="digits")):
        assert len(complaints(wrong, "lenet", "gap", table)) == 2
    assert complaints(wrong, "lenet", "gap", finding(Verdict.MISMATCH)) == []


def test_a_finding_that_has_healed_is_a_complaint(report):
    (line,) = complaints(report, "lenet", "gap", finding(Verdict.CRASHED, "32x32"))
    assert "ort-cpu 32x32 batch 1: pass, where the findings have crashed since 1" in line
    assert "it is a Tuesday" in line
    assert "edit tests/parity/findings.py" in line


def test_a_finding_for_legal_sizes_leaves_the_others_alone(report):
    (line,) = complaints(report, "lenet", "gap", finding(Verdict.ERROR, "legal"))
    assert "32x32" in line


def test_a_partial_finding_holds_as_long_as_one_cell_has_it(report):
    (known,) = finding(Verdict.MISMATCH)
    table = (dataclasses.replace(known, is_partial=True),)
    rejected, passed = report.cells
    wrong = dataclasses.replace(passed, verdict=Verdict.MISMATCH)
    mixed = dataclasses.replace(report, cells=(rejected, wrong))
    assert len(complaints(mixed, "lenet", "gap", (known,))) == 1
    assert complaints(mixed, "lenet", "gap", table) == []
    assert len(complaints(report, "lenet", "gap", table)) == 2
    worse = spoiled(mixed, Verdict.ERROR)
    worse = dataclasses.replace(worse, cells=(worse.cells[0], mixed.cells[1]))
    assert len(complaints(worse, "lenet", "gap", table)) == 1


def test_a_report_without_cells_is_a_complaint(report):
    assert complaints(dataclasses.replace(report, cells=()), "lenet", "gap", ()) == [
        "no cell at all"
    ]


def test_a_runtime_that_is_asked_for_by_name_fails_where_it_does_not_run():
    (info,) = list_runtimes(["ort-cuda"])
    if info.is_available:
        pytest.skip("CUDA runs here")
    test = "test_matrix.py::test_a_file_of_another_head_is_red"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", test],
        cwd=Path(__file__).parents[1] / "parity",
        env=os.environ | {"ANYSIZE_RUNTIME": "ort-cuda"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "ort-cuda: CUDAExecutionProvider does not" in done.stdout
    assert "1 error" in done.stdout
    assert "skipped" not in done.stdout


def test_every_finding_names_a_runtime_of_the_table():
    assert {known.runtime for known in FINDINGS} <= set(RUNTIMES)
