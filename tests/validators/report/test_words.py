"""Words of others in reports: a name in a file can neither steer a terminal nor forge a line."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from anysize.errors import UsageError
from anysize.sizes import Size
from anysize.validators import JoinedReport, Report, Verdict, join, validate_model
from anysize.validators.report import Culprit, Diagnosis, Entry
from anysize.validators.report.json_format import read_report
from anysize.validators.report.reproduce import reproduce
from anysize.validators.report.table import joined_table
from anysize.words import printable

FORGED = "1 of 1 cells good, 1 passed"
# Clears the screen; the 8-bit form of the same; turns the direction of writing; half a character.
HOSTILE = f"\x1b[2J\x9b2J\x00\x01\x7f\u202e\ud800[bold]x[/]\r\n{FORGED}\n"
# What a report says in its own words.
FIXED = {"verdict", "size", "min_size", "max_size", "culprit", "tolerance", "profile", "device"}


@pytest.fixture(scope="module")
def bad(tmp_path_factory, request) -> Report:
    tiny = request.getfixturevalue("tiny_in")(tmp_path_factory.mktemp("words"))
    path = tiny.fc_file(tiny.fc(), bias=False)
    report = validate_model(path, tiny.fc(), sizes=(Size(7, 8), Size(8, 8), Size(9, 9)))
    cell = report.cells[-1]
    assert cell.verdict is Verdict.MISMATCH
    diagnosed = replace(cell, diagnosis=Diagnosis(Culprit.RUNTIME, "text", "n", "Op", inputs="x"))
    error = replace(cell, size=Size(9, 11), verdict=Verdict.ERROR, message="words", outputs=())
    return replace(
        report,
        reference=replace(report.reference, argument="made:tiny"),
        cells=(*report.cells[:-1], diagnosed, error),
        notes=("a note",),
        machine="a machine",
    )


@pytest.fixture(scope="module")
def spoiled(bad) -> JoinedReport:
    """The same report with hostile letters in every text that comes from outside."""

    def spoil(value, key=""):
        if isinstance(value, dict):
            return {name: spoil(entry, name) for name, entry in value.items()}
        if isinstance(value, list):
            return [spoil(entry, key) for entry in value]
        return value + HOSTILE if isinstance(value, str) and key not in FIXED else value

    content = spoil(json.loads(bad.to_json()))
    report = Report.from_json(json.dumps(content))
    lost = Entry(f"job{HOSTILE}", None, f"error{HOSTILE}", 2)
    return JoinedReport((*join((report,)).entries, lost))


def drawn(joined: JoinedReport, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(joined_table(joined, width))
    return stream.getvalue()


def complaints(text: str) -> set[str]:
    return {letter for letter in text if not letter.isprintable() and letter != "\n"}


@pytest.mark.parametrize("width", [40, 100, 2000])
def test_the_table_holds_no_letter_that_a_terminal_obeys(spoiled, width):
    text = drawn(spoiled, width)
    assert complaints(text) == set()
    assert FORGED not in [line.strip() for line in text.splitlines()] or width == 40
    assert "[bold]x[/]" in text


def test_the_page_and_the_markdown_hold_none_either(spoiled):
    pytest.importorskip("jinja2", reason="the page needs the extra report")
    for text in (spoiled.to_html(), spoiled.to_markdown()):
        assert complaints(text) == set()
        assert FORGED not in text.splitlines()


def test_json_and_junit_tell_the_truth(spoiled):
    text = spoiled.to_json()
    assert JoinedReport.from_json(text) == spoiled
    assert complaints(text) == {"\ud800"}  # which is escaped where it is written
    ET.fromstring(spoiled.to_junit())


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_job_without_a_report_is_an_error_of_junit(code):
    suites = ET.fromstring(JoinedReport((Entry("job", None, "words", code),)).to_junit())
    assert suites.get("errors") == "1"


def test_a_printable_text_stays_as_it_is():
    assert printable("größe  8×8 — 大きさ") == "größe  8×8 — 大きさ"
    assert printable(HOSTILE) == f"?[2J?2J?????[bold]x[/]  {FORGED} "


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize("path", ["a\x1b[2J\n'b\\.onnx", "caf\udce9.onnx", "it's.onnx"])
def test_the_command_of_a_strange_name_is_printable_and_right(bad, path):
    report = replace(bad, model=replace(bad.model, path=path))
    command = reproduce(report, bad.cells[-1])
    assert command.isprintable()
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True
    )
    words = done.stdout.split(b"\0")
    assert words[2] == path.encode(errors="surrogateescape")


def test_a_tolerance_that_no_shell_takes_apart_gives_no_command(bad):
    with pytest.raises(ValueError, match="quotation"):
        shlex.split("'")
    assert reproduce(replace(bad, tolerance="'"), bad.cells[0]) == ""


def test_a_code_span_of_markdown_ends_where_the_command_does(bad):
    report = replace(bad, model=replace(bad.model, path="a``b`.onnx"))
    assert "```anysize validate 'a``b`.onnx' " in report.to_markdown()


def test_advice_shows_its_commands_as_code(bad):
    pytest.importorskip("jinja2", reason="the page needs the extra report")
    assert "with <code>anysize export</code> or <code>anysize rewrite</code>." in bad.to_html()
    assert "with `anysize export` or `anysize rewrite`" in bad.to_markdown()


def test_notes_and_machine_are_in_every_form(bad):
    pytest.importorskip("jinja2", reason="the page needs the extra report")
    assert "note: a note" in drawn(join((bad,)), 160)
    assert "Note: a note." in bad.to_markdown()
    assert "<b>Note:</b> a note." in bad.to_html()
    assert 'name="note" value="a note"' in bad.to_junit()
    for text in (bad.to_markdown(), bad.to_html(), bad.to_json()):
        assert "a machine" in text


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"exit_code": 9}, r"Expected `int` <= 3 - at `\$\.entries\[0\]\.exit_code`"),
        ({"exit_code": -1}, r"Expected `int` >= 0 - at `\$\.entries\[0\]\.exit_code`"),
        ({"exit_code": 0, "report": None}, "exit code 0 without a report"),
    ],
    ids=["9", "-1", "no report"],
)
def test_a_job_that_would_be_green_by_mistake_is_refused(bad, entry, words, tmp_path):
    content = json.loads(join((bad,)).to_json())
    content["entries"][0].update(entry)
    path = tmp_path / "joined.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=words):
        JoinedReport.from_json(path.read_text())
    with pytest.raises(UsageError, match=f"report .*joined.json: .*{words}"):
        read_report(path)


def test_numbers_that_no_validation_gives_are_drawn_all_the_same(bad):
    pytest.importorskip("jinja2", reason="the page needs the extra report")
    content = json.loads(bad.to_json())
    for cell in content["cells"]:
        cell["run_s"] = "Infinity"
        for output in cell["outputs"]:
            output["deviation"].update(ratio="NaN", error="Infinity", budget=0.0)
    report = Report.from_json(json.dumps(content))
    assert "(no budget)" in drawn(join((report,)), 160)
    assert report.to_html()
    assert report.to_markdown()
