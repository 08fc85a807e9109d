"""`anysize runtimes` on the command line."""

from __future__ import annotations

import json

import pytest

from anysize.validators import RUNTIMES


@pytest.fixture
def without_tract(tmp_path, monkeypatch):
    (tmp_path / "tract.py").write_text("raise ImportError('not here')")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_missing_runtime_is_shown_with_the_command_that_installs_it(without_tract, run):
    done = run("runtimes")
    assert done.code == 0
    (row,) = [line for line in done.out.splitlines() if "│ tract" in line]
    assert "does not run here" in row
    reason = "tract cannot be imported: not here"
    line = f"tract: {reason}; install it with: pip install 'anysize[tract]'"
    assert line in done.out.splitlines()


def test_as_json_every_runtime_is_listed(without_tract, run):
    entries = {entry["name"]: entry for entry in json.loads(run("runtimes", "--json").out)}
    assert set(entries) == set(RUNTIMES)
    assert entries["ort-cpu"]["version"]
    assert entries["tract"]["install"] == "pip install 'anysize[tract]'"
    assert not entries["tract"]["is_available"]
