"""A rewrite that is given the module is compared with it, and with nothing less."""

from __future__ import annotations

import warnings

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from anysize.cli import main
from anysize.errors import DeclinedError, UsageError, VerificationError
from anysize.surgery import read_metadata
from anysize.verbs.rewrite import rewrite


class Divided(nn.Module):
    """A sum over the cells, divided by a number: 60 by design, or one cell less than there are."""

    def __init__(self, is_constant: bool = True) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.is_constant = is_constant
        self.conv, self.scores = nn.Conv2d(3, 6, 3, 4, 1), nn.Linear(6, 4)

    def forward(self, image):
        fmap = torch.relu(self.conv(image))
        cells = 63 if self.is_constant else fmap.shape[2] * fmap.shape[3] - 1
        return self.scores(fmap.sum((2, 3)) / cells)


class Padded(nn.Module):
    """A window that is padded by what the image lacks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv, self.scores = nn.Conv2d(3, 6, 3, 2), nn.Linear(6, 4)

    def forward(self, image):
        down, across = (1 - side % 2 for side in image.shape[2:])
        padded = functional.pad(image, (1 - across, 1, 1 - down, 1))
        return self.scores(torch.relu(self.conv(padded)).mean((2, 3)))


def exported(network, folder, side=32):
    path = folder / "fixed.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (torch.zeros(1, 3, side, side),), path, dynamo=False)
    return path


def test_the_module_settles_that_a_number_is_a_constant(tmp_path):
    network = Divided()
    path = exported(network, tmp_path)
    with pytest.raises(DeclinedError, match="--reference SOURCE asks the module"):
        rewrite(path, tmp_path / "any.onnx")
    done = rewrite(path, tmp_path / "any.onnx", reference=network)
    assert "; verified against the module Divided: verified on ort-cpu at " in done.summary()
    assert done.report.exit_code == 0
    assert len({cell.size for cell in done.report.cells if cell.verdict == "pass"}) > 3
    assert read_metadata(onnx.load(tmp_path / "any.onnx")).head == "as-is"


@pytest.mark.parametrize("network", [Divided(is_constant=False), Padded()], ids=["cells", "pads"])
def test_what_the_module_computes_otherwise_is_not_written(tmp_path, network):
    path = exported(network, tmp_path)
    with pytest.raises(VerificationError, match=r"is not what .* computes, and was not written: "):
        rewrite(path, tmp_path / "any.onnx", reference=network)
    assert not (tmp_path / "any.onnx").exists()


def test_other_weights_are_not_taken_for_those_of_the_file(tmp_path):
    path = exported(Divided(), tmp_path)
    other = Divided().eval()
    nn.init.normal_(other.scores.weight)
    with pytest.raises(VerificationError, match="mismatch"):
        rewrite(path, tmp_path / "any.onnx", reference=other)


def test_the_command_takes_a_source_and_its_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU(), nn.Flatten(),\n"
        "                         nn.Linear(6 * 64, 4))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(9)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 4))
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    path = exported(network, tmp_path)
    words = ["rewrite", str(path), "-o", "any.onnx", "--to", "adaptive", "--reference", "shop:Net"]
    assert main([*words, "--weights", "weights.pt"]) == 0
    assert "verified against the module shop:Net" in capsys.readouterr().out
    assert main([*words, "--no-verify"]) == 2
    assert "leave out --verify off" in capsys.readouterr().err


def test_weights_need_a_module(tmp_path):
    with pytest.raises(UsageError, match="give it with --reference"):
        rewrite(tmp_path / "a.onnx", tmp_path / "b.onnx", weights=tmp_path / "w.pt")
