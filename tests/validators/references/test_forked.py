"""A module that leaves, crashes or hangs ends a process of its own, and costs its own cells."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import anysize
from anysize.errors import NotRunError, SourceError, WorkerCrashedError
from anysize.sizes import Size
from anysize.validators import Verdict, validate_model
from anysize.validators.references import choose_reference
from anysize.validators.worker import ForkedWorker, Limits, can_fork

pytestmark = pytest.mark.skipif(not can_fork(), reason="this system has no forks")

SIZES = (Size(8, 8), Size(9, 12), Size(10, 14))


class Leaves(nn.Module):
    """Goes right, but for images of 12 columns."""

    def __init__(self, leave=None):
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.linear = nn.Linear(6, 4)
        self.leave = leave

    def forward(self, images):
        if self.leave is not None and images.shape[3] == 12:
            self.leave()
        return self.linear(torch.relu(self.conv(images)).mean((2, 3)))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("leaves") / "leaves.onnx"
    anysize.export(Leaves().eval(), path, size=Size(8, 8), verify=False)
    return path


def crash():
    ctypes.string_at(0)


LEAVING = {
    "leaves": (lambda: os._exit(0), "the process ended with exit code 0"),
    "fails": (lambda: os._exit(7), "the process ended with exit code 7"),
    "aborts": (os.abort, "the process died of SIGABRT"),
    "crashes": (crash, "the process died of SIGSEGV"),
}


@pytest.mark.parametrize(("leave", "words"), LEAVING.values(), ids=LEAVING)
def test_a_reference_that_leaves_costs_its_own_cells(path, leave, words):
    report = validate_model(path, Leaves(leave).eval(), sizes=SIZES, runtimes=["ort-cpu"])
    verdicts = {cell.size: cell.verdict for cell in report.cells}
    assert verdicts == {
        SIZES[0]: Verdict.PASS,
        SIZES[1]: Verdict.CRASHED,
        SIZES[2]: Verdict.PASS,
    }
    assert report.exit_code == 3
    messages = {cell.message for cell in report.cells if cell.verdict is Verdict.CRASHED}
    assert f"reference Leaves at [1, 3, 9, 12]: run: {words}" in messages


def test_a_reference_that_never_returns_is_stopped(path):
    module = Leaves(lambda: time.sleep(60)).eval()
    limits = Limits(run_s=5)
    report = validate_model(path, module, sizes=SIZES, batches=[1], limits=limits)
    assert [cell.verdict for cell in report.cells] == ["pass", "timeout", "pass"]
    assert "no answer within 5 s" in report.cells[1].message


def test_a_reference_that_leaves_on_bright_images_alone_is_seen(path):
    class Dazzled(Leaves):
        def forward(self, images):
            if images.abs().max() > 15:
                os._exit(0)
            return super().forward(images)

    report = validate_model(path, Dazzled().eval(), sizes=SIZES, batches=[1])
    assert [cell.verdict for cell in report.cells].count("crashed") == 1
    assert report.exit_code == 3


def test_what_a_module_raises_is_said_as_before(path):
    with pytest.raises(SourceError, match="training mode"):
        validate_model(path, Leaves(), sizes=SIZES)


def test_a_module_that_leaves_when_it_is_cut_is_one_line(tmp_path):
    path = tmp_path / "cam.onnx"
    anysize.export(Leaves().eval(), path, head="cam", size=Size(12, 12), verify=False)
    with pytest.raises(NotRunError, match="reference Leaves: start: the process ended"):
        validate_model(path, Leaves(lambda: os._exit(0)).eval(), sizes=[Size(13, 13)])


def test_a_fork_computes_on_several_threads_after_its_parent_has(path):
    import onnx

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        module = Leaves().eval()
        images = {"input": np.ones((4, 3, 64, 64), np.float32)}
        with torch.inference_mode():
            usual = module(torch.from_numpy(images["input"]))
        reference = choose_reference(onnx.load(path), module, limits=Limits(run_s=20))
        (answer,) = reference.run(images, "float32")
        reference.close()
        assert np.allclose(answer, usual.numpy(), atol=1e-6)
    finally:
        torch.set_num_threads(before)


def test_a_fork_shares_what_its_parent_holds():
    held = np.ones(64 << 20, np.uint8)

    def start():
        def own_bytes(_):
            held.sum()
            with Path("/proc/self/smaps_rollup").open() as stream:
                lines = dict(line.split(":") for line in list(stream)[1:])
            return int(lines["Private_Dirty"].split()[0]) << 10

        return own_bytes

    worker = ForkedWorker(start, limits=Limits())
    assert worker.ask(None) < held.nbytes / 2
    worker.close()


def test_an_exception_that_cannot_be_sent_keeps_its_words():
    class OddError(Exception):
        def __init__(self, first, second):
            super().__init__(f"{first} and {second}")

    def start():
        def fail(_):
            raise OddError("one", "two")

        return fail

    worker = ForkedWorker(start, limits=Limits())
    with pytest.raises(RuntimeError, match="OddError: one and two"):
        worker.ask(None)
    worker.close()
    with pytest.raises((WorkerCrashedError, ValueError, OSError)):
        worker.ask(None)


class Session:
    """Stands for one with threads: they are not in the copy, so it must not be ended there."""

    def __init__(self):
        self.itself, self.made_in = self, os.getpid()

    def __del__(self):
        if os.getpid() != self.made_in:
            os._exit(17)


def test_what_the_parent_left_to_be_collected_is_not_ended_in_the_copy():
    gc.disable()
    try:
        Session()  # only the collector can find it
        worker = ForkedWorker(lambda: lambda _: gc.collect(), limits=Limits())
        assert worker.ask(None) >= 0
        worker.close()
    finally:
        gc.enable()
