"""An interrupted run leaves the old file or none, one line, and no temporary file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

SLOW = """
import pathlib, time
from torch import nn

def make():
    pathlib.Path("started").touch()
    time.sleep(60)
    return nn.Conv2d(3, 4, 3)
"""
LIMIT_S = 60


def _heed_signals():
    """A suite that runs in the background, or under nohup, hands down signals that are ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def interrupt(folder, number, *, times=1):
    """Start an export that hangs in a user's module, and send it a signal there."""
    (folder / "slow.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "anysize", "export", "slow:make", "-o", "out.onnx"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_signals,
    )
    try:
        until = time.monotonic() + LIMIT_S
        while not (folder / "started").exists() and time.monotonic() < until:
            time.sleep(0.02)
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.01)
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_the_old_file_and_one_line(name, tmp_path):
    (tmp_path / "out.onnx").write_bytes(b"old")
    number = getattr(signal, name)
    code, out, err = interrupt(tmp_path, number)
    assert code == 128 + number
    assert out == ""
    assert err.splitlines()[-1] == f"anysize: ended by {name}; no output file was left half-written"
    assert "Traceback" not in err
    assert (tmp_path / "out.onnx").read_bytes() == b"old"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_impatient_user_gets_no_traceback_and_no_file(tmp_path):
    code, _, err = interrupt(tmp_path, signal.SIGINT, times=2)
    assert code in (128 + signal.SIGINT, -signal.SIGINT)
    assert not (tmp_path / "out.onnx").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], err


def test_a_signal_while_a_file_is_written_leaves_the_old_one(run, tmp_path, monkeypatch):
    from anysize import surgery
    from anysize.surgery import save_model

    def interrupted(model, path, **options):
        save_model(model, path, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    path = tmp_path / "lenet.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr(surgery, "save_model", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    done = run("export", "lenet", "-o", path)
    assert done.code == 128 + signal.SIGTERM
    assert done.errors == ["anysize: ended by SIGTERM; no output file was left half-written"]
    assert [p.name for p in tmp_path.iterdir()] == ["lenet.onnx"]
    assert path.read_bytes() == b"old"
    assert signal.getsignal(signal.SIGTERM) is before
