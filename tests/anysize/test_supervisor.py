"""Code of a model that ends the program, or never comes back, ends no command in silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import anysize

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes do not fork there")

LEAVES = """
import os, time
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, end, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.linear, self.end = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), end

    def forward(self, images):
        self.end()
        return self.linear(torch.relu(self.conv(images)).mean((2, 3)))


def other(): return Net(lambda: None, seed=1).eval()
def right(): return Net(lambda: None).eval()
def leaves(): os._exit(0)
def aborts(): os.abort()
def sleeps(): time.sleep(1000)
def leaves_where_it_is_traced(): return Net(lambda: os._exit(0)).eval()
def sleeps_where_it_is_traced(): return Net(sleeps).eval()
def aborts_where_it_is_traced(): return Net(os.abort).eval()
"""
HASTY = """
from anysize.cli import main, supervisor
supervisor._LIMITS_S[{phase!r}] = 3
raise SystemExit(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaves")
    (folder / "leaves.py").write_text(LEAVES)
    (folder / "gone.py").write_text("import os; os._exit(0)")
    return folder


def program(folder, *words, start=("-m", "anysize")):
    done = subprocess.run(
        [sys.executable, *start, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.splitlines()


CASES = [
    ("gone:make", "building", "ended with exit code 0"),
    ("leaves:leaves", "building", "ended with exit code 0"),
    ("leaves:aborts", "building", "died of SIGABRT"),
    ("leaves:leaves_where_it_is_traced", "tracing", "ended with exit code 0"),
    ("leaves:aborts_where_it_is_traced", "tracing", "died of SIGABRT"),
]


@pytest.mark.parametrize(("source", "phase", "cause"), CASES, ids=[case[0] for case in CASES])
def test_an_export_whose_model_ends_the_program_says_so(folder, source, phase, cause):
    (folder / "out.onnx").write_bytes(b"old")
    code, out, errors = program(folder, "export", source, "--size", "16x16", "-o", "out.onnx")
    assert (code, out) == (3, "")
    (line,) = [line for line in errors if line.startswith("anysize: ")]
    assert line.startswith(f"anysize: error: while {phase} ")
    assert f"the program {cause}, and not by its own doing" in line
    assert (folder / "out.onnx").read_bytes() == b"old"
    assert not list(folder.glob(".out*"))


@pytest.fixture(scope="module")
def file(folder):
    sys.path.insert(0, str(folder))
    try:
        import leaves
    finally:
        sys.path.remove(str(folder))
    return anysize.export(leaves.right(), folder / "net.onnx", size="16x16", verify=False).path


@pytest.mark.parametrize(("source", "phase", "cause"), CASES[:3], ids=[c[0] for c in CASES[:3]])
def test_a_validation_whose_reference_ends_the_program_says_so(folder, file, source, phase, cause):
    code, out, errors = program(folder, "validate", file, "--reference", source)
    assert (code, out) == (3, "")
    (line,) = [line for line in errors if line.startswith("anysize: ")]
    assert f"while {phase} the reference, the program {cause}" in line


@pytest.mark.parametrize(
    ("source", "phase", "what"),
    [
        ("leaves:sleeps", "building", "building the model"),
        ("leaves:sleeps_where_it_is_traced", "tracing", "tracing leaves:sleeps_where_it_is_traced"),
    ],
)
def test_a_model_that_comes_to_no_end_in_its_own_code_is_given_up(folder, source, phase, what):
    words = ("export", source, "--size", "16x16", "-o", "never.onnx")
    code, _, errors = program(folder, *words, start=("-c", HASTY.format(phase=phase)))
    assert code == 3
    assert f"while {what}, the program came to no end within 3 s: look at" in errors[-1]
    assert not list(folder.glob(".never*"))


def test_a_command_that_ends_by_itself_keeps_its_exit_code(folder, file):
    for source, code in (("leaves:right", 0), ("leaves:other", 1), ("leaves:none", 2)):
        words = ("--reference", source, "--sizes", "16x16", "--batches", "1")
        assert program(folder, "validate", file, *words)[0] == code


def test_the_child_ends_with_its_parent(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "anysize", "export", "leaves:sleeps", "-o", "never.onnx"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "building" in process.stderr.readline()
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(children, encoding="ascii") as stream:  # noqa: PTH123
        (child,) = map(int, stream.read().split())
    process.kill()
    process.wait()
    process.stderr.close()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child lives on")
