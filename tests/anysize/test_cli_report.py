"""`anysize report`, and the files that `anysize validate` writes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def reports(digits_files, tmp_path_factory):
    from anysize.cli import main

    folder = tmp_path_factory.mktemp("reports")
    for head in ("gap", "fcn"):
        path = folder / f"{head}.json"
        arguments = [str(digits_files[head]), "--sizes", "32x32,40x36", "--batches", "1"]
        assert main(["validate", *arguments, "--json", str(path)]) == 0
    spoiled = json.loads((folder / "gap.json").read_text())
    spoiled["cells"][0]["verdict"] = "error"
    (folder / "bad.json").write_text(json.dumps(spoiled))
    return folder


def test_validate_writes_every_format_at_once(digits_files, run, tmp_path):
    pytest.importorskip("jinja2", reason="the page needs the extra report")
    names = ("json", "junit", "markdown", "html")
    options = [word for name in names for word in (f"--{name}", tmp_path / name)]
    done = run("validate", digits_files["gap"], "--sizes", "32x32", *options)
    assert done.code == 0
    starts = [(tmp_path / name).read_text()[:14] for name in names]
    assert starts == ['{\n  "cells": [', "<?xml version=", "# ✅ 2 of 2 cel", "<!DOCTYPE html"]


def test_reports_are_joined_into_one_page_and_one_document(reports, run, tmp_path):
    pytest.importorskip("jinja2", reason="the page needs the extra report")
    page, document = tmp_path / "page.html", tmp_path / "all.json"
    files = (reports / "gap.json", reports / "fcn.json")
    done = run("report", *files, "--html", page, "--json", document)
    assert (done.code, done.errors) == (0, [])
    assert "2 jobs: 4 of 4 cells good, 4 passed" in done.out
    assert page.read_text().count('class="report"') == 2
    again = run("report", document, "--json", "-")
    assert json.loads(again.out) == json.loads(document.read_text())


def test_the_exit_code_is_what_the_reports_add_up_to(reports, run):
    done = run("report", reports / "gap.json", reports / "bad.json")
    assert done.code == 1
    assert "a comparison failed: 1 error" in done.out


def test_the_schema_is_printed(run):
    done = run("report", "--schema")
    assert done.code == 0
    assert "Cell" in json.loads(done.out)["$defs"]
    matrix = json.loads(run("matrix", "--schema").out)["$defs"]["Model"]["properties"]
    assert matrix["batches"]["items"] == {"type": "integer", "minimum": 1, "maximum": 1024}
    assert all(key["description"] for key in matrix.values())  # errors quote it


def test_no_report_is_a_usage_error(run, tmp_path):
    assert run("report").code == 2
    (tmp_path / "x.json").write_text("{}")
    done = run("report", tmp_path / "x.json")
    assert (done.code, len(done.errors)) == (2, 1)


def test_a_missing_jinja_is_told_before_the_work(digits_files, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = run("validate", digits_files["gap"], "--html", tmp_path / "page.html")
    assert done.code == 2
    assert "pip install 'anysize[report]'" in done.err
    assert "[0/" not in done.err


def test_two_options_with_one_file_are_refused(digits_files, run, tmp_path):
    same = tmp_path / "out"
    done = run("validate", digits_files["gap"], "--markdown", same, "--junit", same)
    assert done.code == 2
    assert "--junit and --markdown both name" in done.err


def test_a_terminal_of_any_encoding_gets_the_table_and_the_true_exit_code(reports, monkeypatch):
    from anysize.cli import main

    for encoding in ("ascii", "latin-1", "cp437", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["report", str(reports / "bad.json")]) == 1
        text = stream.buffer.getvalue().decode(encoding)
        assert "is the largest error as a multiple of its budget" in text
        assert "\\u" not in text
        assert ("+-" in text) == (encoding != "utf-8")


def test_what_an_encoding_lacks_is_json_all_the_same(reports, monkeypatch, tmp_path):
    from anysize.cli import main

    content = json.loads((reports / "gap.json").read_text())
    content["model"]["path"] = "größe-大-\N{GRINNING FACE}.onnx"
    (tmp_path / "x.json").write_text(json.dumps(content))
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["report", str(tmp_path / "x.json"), "--json", "-"]) == 0
    (entry,) = json.loads(stream.buffer.getvalue())["entries"]
    assert entry["report"]["model"]["path"] == content["model"]["path"]


def test_a_device_is_no_report_and_no_inputs(digits_files, run):
    done = run("report", "/dev/null")
    assert (done.code, len(done.errors)) == (2, 1)
    assert "is a device or a pipe" in done.err
    done = run("validate", digits_files["gap"], "--inputs", "/dev/null")
    assert (done.code, len(done.errors)) == (2, 1)
    assert "is no regular file" in done.err


def test_a_pipe_is_not_waited_for(digits_files, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    model, fifo = str(digits_files["gap"]), str(tmp_path / "fifo")
    for arguments in (["report", fifo], ["validate", model, "--inputs", fifo]):
        command = [sys.executable, "-m", "anysize", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert f"{fifo}: is " in done.stderr


def test_a_report_that_is_too_large_is_not_read(run, tmp_path, monkeypatch):
    from anysize.validators.report import json_format

    monkeypatch.setattr(json_format, "_MAX_BYTES", 10)
    (tmp_path / "x.json").write_text(" " * 11)
    done = run("report", tmp_path / "x.json")
    assert done.code == 2
    assert "is larger than 10 bytes" in done.err


def test_a_link_to_itself_is_no_place_for_a_report(reports, run, tmp_path):
    for name, target in (("self", "self"), ("one", "two"), ("two", "one")):
        (tmp_path / name).symlink_to(target)
    for option in ("--json", "--junit", "--markdown", "--html"):
        for name in ("self", "one"):
            done = run("report", reports / "gap.json", option, tmp_path / name)
            assert (done.code, len(done.errors)) == (2, 1)
            assert "cannot be written: Too many levels of symbolic links" in done.err


def test_only_json_goes_to_stdout_and_nothing_to_a_file_without_a_name(
    reports, run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for option in ("--junit", "--markdown", "--html"):
        done = run("report", reports / "gap.json", option, "-")
        assert done.code == 2
        assert f"{option} -: only --json writes to stdout" in done.err
    for option in ("--json", "--junit", "--markdown", "--html"):
        done = run("report", reports / "gap.json", option, "")
        assert (done.code, len(done.errors)) == (2, 1)
    assert list(tmp_path.iterdir()) == []
