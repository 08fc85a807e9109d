"""Reports: what is written is what was found."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from anysize.errors import UsageError
from anysize.sizes import Size
from anysize.validators import Report, Verdict, validate_model
from anysize.validators.report.table import report_table

SIZES = (Size(7, 8), Size(8, 8), Size(9, 10))


@pytest.fixture
def good(tiny) -> Report:
    return validate_model(
        tiny.fc_file(tiny.fc()), tiny.fc(), runtimes=("ort-cpu", "onnx-reference"), sizes=SIZES
    )


@pytest.fixture
def bad(tiny) -> Report:
    def poison(graph, logits):
        return graph.add("Div", logits, graph.add("Sub", logits, logits))

    return validate_model(tiny.fc_file(tiny.fc(), tail=poison), tiny.fc(), sizes=SIZES)


def drawn(report: Report, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(report_table(report, width))
    return " ".join(stream.getvalue().split())


def test_a_report_survives_json(good, bad):
    for report in (good, bad):
        assert Report.from_json(report.to_json()).to_json() == report.to_json()
    assert Report.from_json(good.to_json()) == good


def test_json_is_strict_sorted_and_versioned(bad):
    def refuse(word):
        raise AssertionError(word)

    content = json.loads(bad.to_json(), parse_constant=refuse)
    assert content["schema_version"] == 1
    assert (content["ok"], content["exit_code"]) == (False, 1)
    assert list(content) == sorted(content)
    assert content["cells"][-1]["size"] == "9x10"
    assert content["cells"][-1]["outputs"][0]["deviation"]["ratio"] == "Infinity"


def test_two_runs_differ_in_nothing_but_measured_times(tiny):
    def once():
        report = validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), sizes=SIZES)
        return replace(report, cells=tuple(replace(cell, run_s=None) for cell in report.cells))

    assert once().to_json() == once().to_json()


def test_a_report_records_what_took_part(good, tiny):
    assert len(good.model.sha256) == 64
    assert good.model.opset == 17
    assert (good.reference.name, good.reference.kind) == ("TinyFc", "module")
    assert (good.seed, good.vacuity_seed) == (0, 1)
    assert {"numpy", "onnx", "torch"} <= {package.package for package in good.packages}
    assert [runtime.name for runtime in good.runtimes] == ["ort-cpu", "onnx-reference"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema_version": 99}', '{"schema_version": 1}', "[" * 100_000],
    ids=["empty", "list", "no version", "version 99", "no cells", "deep"],
)
def test_what_is_no_report_is_refused(text):
    with pytest.raises(UsageError, match="report"):
        Report.from_json(text)


def test_junit_has_a_case_for_each_cell(good):
    suite = ET.fromstring(good.to_junit())[0]
    cases = suite.findall("testcase")
    assert len(cases) == len(good.cells) == 12
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")


def test_junit_is_as_red_as_the_exit_code(bad):
    suite = ET.fromstring(bad.to_junit())[0]
    failures = suite.findall("testcase/failure")
    assert {failure.get("type") for failure in failures} == {"mismatch"}
    assert "only one of them is finite" in failures[0].get("message")
    nothing = replace(bad, cells=tuple(c for c in bad.cells if c.verdict is Verdict.REJECTED))
    assert nothing.exit_code == 3
    assert ET.fromstring(nothing.to_junit())[0].get("errors") == "1"


def test_junit_stays_xml_whatever_a_runtime_says(bad):
    cells = (replace(bad.cells[-1], message="\x00\x1b[31m<&>\ud800\uffff"),)
    ET.fromstring(replace(bad, cells=cells).to_junit())


def test_the_table_shows_verdicts_numbers_and_a_legend(good):
    text = drawn(good)
    for words in (
        "TinyFc",
        "ort-cpu",
        "rejected",
        "pass 0.",
        "strict",
        "2.86e-06",
        "CPUExecutionProvider",
        "pass: every output within the error budget",
        "12 of 12 cells good, 8 passed",
    ):
        assert words in text


def test_the_table_tells_where_it_fails_and_how(bad):
    text = drawn(bad)
    assert "ort-cpu 8x8 batch 1: mismatch: output 'logits' at [" in text
    assert "do not ship this file for this size" in text
    assert "also at 8x8 batch 2, 9x10 batch 1, 9x10 batch 2" in text


def test_the_table_says_when_nothing_was_proved(good):
    cells = tuple(cell for cell in good.cells if cell.verdict is Verdict.REJECTED)
    assert "no cell passed, so nothing was proved" in drawn(replace(good, cells=cells))
