"""`anysize.testing`: an assertion that tells a story, and a plugin that starts light."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import anysize
from anysize.sizes import Size
from anysize.testing import assert_parity
from anysize.validators import JoinedReport

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PLUGIN = "anysize.testing.plugin"
# Where the package is installed with its entry point, pytest has loaded the plugin already.
LOADED = any(point.value == PLUGIN for point in entry_points(group="pytest11"))
OPTIONS = () if LOADED else ("-p", PLUGIN)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("parity") / "digits.onnx"
    anysize.export("digits", path, head="gap", verify=False)
    return path


def test_a_healthy_file_passes_and_gives_its_report(digits):
    report = assert_parity(None, digits, sizes=["32x32", Size(40, 36)], batches=(1,))
    assert [str(cell.size) for cell in report.cells] == ["32x32", "40x36"]


def test_a_wrong_file_raises_its_story(digits):
    with pytest.raises(AssertionError) as caught:
        assert_parity("lenet", digits, sizes="32x32")
    story = str(caught.value)
    assert "against lenet: 0 of 2 cells good, 0 passed; a comparison failed: 2 " in story
    assert "ort-cpu 32x32 batch 1: " in story
    assert story.count("what to do: ") == 1


def test_a_file_that_proves_nothing_raises(digits):
    with pytest.raises(AssertionError, match="nothing was proved"):
        assert_parity(None, digits, sizes="4x4")


def test_the_entry_point_names_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"anysize": PLUGIN}


def test_the_plugin_loads_nothing_heavy():
    code = f"import {PLUGIN}, sys; print(sorted({{'torch', 'onnx', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def suite(pytester, digits):
    pytester.makepyfile(
        f"""
        def test_good(anysize_parity):
            anysize_parity(None, {str(digits)!r}, sizes="32x32")

        def test_bad(anysize_parity, anysize_runtimes):
            assert anysize_runtimes == ("ort-cpu", "onnx-reference")
            anysize_parity("lenet", {str(digits)!r}, sizes="32x32", batches=(1,))
        """
    )
    return pytester


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_fixture_fails_with_the_story_and_the_report_has_every_file(suite, workers):
    if workers:
        pytest.importorskip("xdist", reason="needs pytest-xdist")
    runpytest = suite.runpytest_subprocess if workers else suite.runpytest_inprocess
    done = runpytest(
        *OPTIONS,
        *(("-n", str(workers)) if workers else ("-p", "no:xdist")),
        "--anysize-runtimes=ort-cpu,onnx-reference",
        "--anysize-report=out.json",
    )
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*against lenet: 0 of 2 cells good*"])
    joined = JoinedReport.from_json((suite.path / "out.json").read_text())
    assert sorted(entry.exit_code for entry in joined.entries) == [0, 1]


def test_a_report_of_ones_own_can_be_recorded_whatever_it_says(pytester, digits):
    pytester.makepyfile(
        f"""
        import anysize

        def test_shown(anysize_record):
            anysize_record(anysize.validate({str(digits)!r}, "lenet", sizes=[anysize.Size(32, 32)]))
        """
    )
    done = pytester.runpytest_inprocess(*OPTIONS, "-p", "no:xdist", "--anysize-report=out.json")
    done.assert_outcomes(passed=1)
    joined = JoinedReport.from_json((pytester.path / "out.json").read_text())
    assert [entry.exit_code for entry in joined.entries] == [1]


@pytest.mark.parametrize("name", ["report.pdf", "missing/report.json"])
def test_a_report_that_cannot_be_written_is_refused_before_the_tests(pytester, name):
    done = pytester.runpytest_subprocess(*OPTIONS, f"--anysize-report={name}")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*--anysize-report*"])
