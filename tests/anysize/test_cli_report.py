"""`anysize report`, and the files that `anysize validate` writes."""

from __future__ import annotations

import json
import sys

import pytest


@pytest.fixture(scope="module")
def reports(digits_files, tmp_path_factory):
    from anysize.cli import main

    folder = tmp_path_factory.mktemp("reports")
    for head in ("gap", "fcn"):
        path = folder / f"{head}.json"
        arguments = [str(digits_files[head]), "--sizes", "32x32,40x36", "--batch", "1"]
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
