"""What two traces explain wrongly is found by the proof, and traced anew with symbols."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import anysize
from anysize.errors import VerificationError
from anysize.exporters import ExportSpec, export_module
from anysize.sizes import Size

ort.set_default_logger_severity(4)


class Cropped(nn.Module):
    """Take the square in the middle: a square image does not tell which side is the smaller one."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 5)

    def forward(self, x):
        height, width = x.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        x = x[:, :, top : top + side, left : left + side]
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


class Centred(nn.Module):
    """Lay an enlarged map over another one, centred: half of what is missing may be less than 0."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 5)
        self.down, self.up = nn.Conv2d(8, 8, 3, 2, 1), nn.ConvTranspose2d(8, 8, 2, 2)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        larger = self.up(self.down(x))
        more = [a - b for a, b in zip(x.shape[2:], larger.shape[2:], strict=True)]
        around = [one for by in reversed(more) for one in (by // 2, by - by // 2)]
        return self.fc((x + F.pad(larger, around)).relu().mean((2, 3)))


def network(kind):
    torch.manual_seed(0)
    return kind().eval()


def spec(**more):
    return ExportSpec(name="net", head=None, channels=3, classes=None, size=Size(24, 24), **more)


def answers(model, image):
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": image})[0]


def is_right(model, module):
    cases = []
    for height, width in ((24, 24), (33, 51), (66, 41), (23, 64), (64, 25)):
        x = np.random.default_rng(1).standard_normal((3, 3, height, width), dtype=np.float32)
        with torch.inference_mode():
            expected = module(torch.from_numpy(x)).numpy()
        cases.append(np.allclose(answers(model, x), expected, rtol=2e-4, atol=2e-5))
    return all(cases)


@pytest.fixture
def wrong(monkeypatch):
    """Let the exporter explain numbers wrongly in some ways; returns the ways it was asked for."""
    from anysize import exporters

    asked = []

    def start(ways):
        def other(module, spec):
            asked.append(spec.with_symbols)
            if spec.with_symbols in ways:
                module = copy.deepcopy(module)
                torch.nn.init.ones_(module.fc.bias)
            return export_module(module, spec)

        monkeypatch.setattr(exporters, "export_module", other)
        return asked

    return start


def test_what_the_proof_finds_wrong_is_traced_with_symbols(wrong, tmp_path):
    module, path, said, asked = network(Cropped), tmp_path / "net.onnx", [], wrong({False})
    done = anysize.export(module, path, size="24x24", progress=lambda *words: said.append(words[2]))
    assert done.report.ok
    assert asked == [False, True]
    assert any("with symbols for its axes" in words for words in said)
    assert [one.name for one in tmp_path.iterdir()] == ["net.onnx"]
    assert is_right(path, module)


def test_symbols_are_divided_rounding_down_as_python_does():
    module = network(Centred)
    assert is_right(
        export_module(module, spec(with_symbols=True)).loaded().SerializeToString(), module
    )


def test_what_is_wrong_with_symbols_too_is_told_and_not_written(wrong, tmp_path):
    asked = wrong({False, True})
    with pytest.raises(VerificationError, match="the exported graph is wrong and was not written"):
        anysize.export(network(Cropped), tmp_path / "net.onnx", size="24x24")
    assert asked == [False, True]
    assert not [*tmp_path.iterdir()]


def test_a_wrong_graph_without_computed_numbers_is_not_tried_again(wrong, tmp_path):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

        def forward(self, x):
            return self.fc(torch.relu(self.conv(x)).mean((2, 3)))

    asked = wrong({False})
    with pytest.raises(VerificationError, match="wrong"):
        anysize.export(network(Plain), tmp_path / "net.onnx", size="24x24")
    assert asked == [False]


@pytest.mark.parametrize("size", [Size(24, 24), Size(24, 40), Size(40, 24)])
def test_the_middle_is_cut_out_of_any_image(size):
    module = network(Cropped)
    done = export_module(module, replace(spec(), size=size))
    assert is_right(done.loaded().SerializeToString(), module)
