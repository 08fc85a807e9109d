"""A matrix that is interrupted ends at once, keeps what is done, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each waits for processes to end

CONFIG = """
sizes = ["32x32"]
batches = [1]

[[model]]
source = "digits"
heads = ["gap"]
"""
MORE = """
[[model]]
source = "hanging_net:make"

[[model]]
source = "lenet"
"""
PATIENT = """
import pathlib, time

def make():
    pathlib.Path("started").touch()
    time.sleep(60)
"""
# As code does that does not come back to Python.
DEAF = """
import pathlib, time

def make():
    pathlib.Path("started").touch()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            time.sleep(1)
        except BaseException:
            pass
"""
LIMIT_S = 120
SOON_S = 10  # about one second on an idle machine


def _heed_signals():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path):
    """Start a matrix in a session of its own, with a temporary folder of its own."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "matrix.toml").write_text(CONFIG + MORE)
    started = []

    def start(*options):
        process = subprocess.Popen(
            [sys.executable, "-m", "anysize", "matrix", "matrix.toml", *options],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_heed_signals,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(claim, limit_s=LIMIT_S):
    until = time.monotonic() + limit_s
    while not claim():
        assert time.monotonic() < until
        time.sleep(0.02)


def processes_of(folder):
    """The commands of processes whose TMPDIR lies in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={folder}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" "))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find processes")
@pytest.mark.parametrize("module", [PATIENT, DEAF], ids=["patient", "deaf"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_all_jobs_and_keeps_the_finished_ones(tmp_path, start, run, module, name):
    (tmp_path / "hanging_net.py").write_text(module)
    process = start()
    wait_for((tmp_path / "started").exists)
    before = time.monotonic()
    # A terminal sends Ctrl-C to all; others end the one that they know.
    number = getattr(signal, name)
    (os.killpg if name == "SIGINT" else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=LIMIT_S)
    assert time.monotonic() - before < SOON_S
    assert process.returncode == 128 + number
    assert out == ""
    assert err.splitlines()[-1] == f"anysize: ended by {name}; no output file was left half-written"
    assert "Traceback" not in err
    assert list((tmp_path / "temporary").iterdir()) == []
    reports = tmp_path / "matrix.reports"
    assert sorted(path.suffix for path in reports.iterdir()) == [".json", ".onnx"]
    wait_for(lambda: not processes_of(tmp_path / "temporary"), SOON_S)
    (tmp_path / "matrix.toml").write_text(CONFIG)
    again = run("matrix", tmp_path / "matrix.toml", "--resume")
    assert again.code == 0
    assert "[1/1] starting" in again.err


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find processes")
def test_jobs_end_when_their_parent_is_killed(tmp_path, start):
    (tmp_path / "hanging_net.py").write_text(DEAF)
    process = start("--jobs", "3")
    wait_for((tmp_path / "started").exists)
    process.kill()
    process.communicate(timeout=LIMIT_S)
    wait_for(lambda: not processes_of(tmp_path / "temporary"), SOON_S)
