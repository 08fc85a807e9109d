"""Export excuses a module that hardly sees a tiny image, and nothing else."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn

import anysize
from anysize.errors import VerificationError
from anysize.sizes import Size, SizeRange, Steps
from anysize.surgery import drop_guards
from anysize.validators import Verdict, validate_model


class Ring(nn.Module):
    """Sees the image through what surrounds a pixel, which an image of one pixel has not."""

    def __init__(self, *, around=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)
        with torch.no_grad():
            self.conv.weight *= around
            self.conv.weight[:, :, 1, 1] *= 1e-7

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


def test_a_vacuous_smallest_size_is_a_note(tmp_path):
    done = anysize.export(Ring().eval(), tmp_path / "ring.onnx", size="16x16")
    assert done.path.is_file()
    vacuous = {str(cell.size) for cell in done.report.cells if cell.verdict == "vacuous"}
    assert vacuous == {"1x1"}
    (note,) = done.notes
    assert "at 1x1 the module's own answer hardly depends on the image" in note
    assert "2 vacuous" in done.summary()
    assert anysize.validate(done.path, Ring().eval()).exit_code == 1


def test_a_larger_smallest_size_leaves_nothing_to_note(tmp_path):
    done = anysize.export(Ring().eval(), tmp_path / "ring.onnx", size="16x16", min_size="8x8")
    assert done.notes == ()
    assert done.report.ok


def test_a_file_that_is_vacuous_at_its_training_size_is_not_written(tmp_path):
    path = tmp_path / "ring.onnx"
    with pytest.raises(VerificationError, match=r"is not proved right and was not written: .*vacu"):
        anysize.export(Ring(around=1e-7).eval(), path, size="16x16")
    assert not path.exists()


def test_a_file_that_refuses_what_its_module_takes_is_not_written(tmp_path, monkeypatch):
    path, even = tmp_path / "ring.onnx", SizeRange(Size(2, 2), None, Steps(2), Steps(2))
    monkeypatch.setattr("anysize.exporters.export.legal_sizes", lambda *_, **__: even)
    words = r"was not written: .*: error: the reference takes [0-9]+x[0-9]+, and the file declares"
    with pytest.raises(VerificationError, match=words):
        anysize.export(Ring().eval(), path, size="16x16")
    assert not path.exists()


class Wavelet(nn.Module):
    """Adds neighbours: three cells broadcast by chance, and one cell leaves none."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4, 3)

    def forward(self, image):
        x = torch.relu(self.conv(image))
        x = x[:, :, 0::2, 0::2] - x[:, :, 1::2, 0::2] * x[:, :, 0::2, 1::2]
        return self.fc(x.mean((2, 3)))


def test_what_broadcasts_by_chance_is_no_size_that_a_file_has_to_take(tmp_path):
    network = Wavelet().eval()
    assert torch.isfinite(network(torch.ones(1, 3, 5, 4))).all()
    done = anysize.export(network, tmp_path / "any.onnx", size="32x32")
    assert Size(5, 4) not in done.sizes
    assert done.report.ok
    # Nor is what ONNX broadcasts.
    free = tmp_path / "free.onnx"
    onnx.save(drop_guards(onnx.load(done.path), "min", "max", "steps"), free)
    report = validate_model(
        done.path, free, sizes=(Size(32, 32), Size(5, 4)), batches=1, runtimes=("ort-cpu",)
    )
    assert {str(cell.size): cell.verdict for cell in report.cells}["5x4"] is Verdict.REJECTED
