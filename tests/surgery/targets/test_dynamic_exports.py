"""Networks that torch.onnx exports at one size take any size and batch, and equal the module."""

from __future__ import annotations

import io
import logging
import warnings
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from anysize.sizes import Size
from anysize.surgery import load_model, rewrite, save_model
from anysize.validators.proof import prove_rewrite

SHAPES = [(1, 3, 40, 40), (2, 3, 67, 91), (3, 3, 48, 33)]


def shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleNet(nn.Module):
    """Two units of ShuffleNet V2, group normalisation, and a lateral map that is resized."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.left, self.right = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.norm = nn.GroupNorm(2, 8)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for layer in (self.left, self.right):
            kept, moved = x.chunk(2, dim=1)
            x = shuffle(torch.cat((kept, torch.relu(layer(moved))), dim=1), 2)
        x = self.norm(x)
        small = torch.relu(self.down(x))
        x = x + nn.functional.interpolate(small, size=x.shape[2:], mode="nearest")
        return self.fc(torch.relu(self.last(x)).mean([2, 3]))


class PooledNet(nn.Module):
    """Ends in a window over the trained map, as a ResNet of 2016."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.block = nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.AvgPool2d(7)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.stem(x)), 2)
        x = torch.relu(x + self.block(x))
        return self.fc(self.pool(x).flatten(1))


@cache
def network() -> ShuffleNet:
    torch.manual_seed(0)
    return ShuffleNet().eval()


def export(module: nn.Module, images: torch.Tensor, *, dynamo: bool) -> onnx.ModelProto:
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if dynamo:
                return torch.onnx.export(module, (images,), dynamo=True, verbose=False).model_proto
            buffer = io.BytesIO()
            torch.onnx.export(module, (images,), buffer, dynamo=False)
            return onnx.ModelProto.FromString(buffer.getvalue())
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_a_statically_exported_shufflenet_equals_the_module_at_any_size(kit, dynamo):
    original = export(network(), torch.zeros(1, 3, 40, 40), dynamo=dynamo)
    for to in ("dynamic", "cam"):
        done = rewrite(original, to=to)
        assert done.applied
        proof = prove_rewrite(original, done.model, [Size(53, 70)])
        assert proof.ok, proof.message
        for shape in SHAPES:
            images = kit.images(*shape)
            with torch.no_grad():
                want = network()(torch.from_numpy(images)).numpy()
            assert np.ptp(want, axis=1).min() > 0.1
            got = kit.run(done.model, images)[0]
            np.testing.assert_allclose(got, want, rtol=0, atol=4e-6)


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_a_window_of_seven_becomes_global_and_is_proved(kit, dynamo):
    torch.manual_seed(0)
    module = PooledNet().eval()
    original = export(module, torch.zeros(1, 3, 28, 28), dynamo=dynamo)
    done = rewrite(original, to="gap")
    proof = prove_rewrite(original, done.model, [Size(45, 61)])
    assert proof.ok, proof.message
    images = kit.images(2, 3, 45, 61)
    module.pool = nn.AdaptiveAvgPool2d(1)
    with torch.no_grad():
        want = module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(kit.run(done.model, images)[0], want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("to", ["adaptive", "resize"])
def test_weights_beside_the_file_stay_there(kit, tmp_path, to):
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(
        kit.plain(), source, save_as_external_data=True, location="in.weights", size_threshold=256
    )
    done = rewrite(load_model(source, weights="in_file"), to=to, source=source)
    save_model(done.model, target, source=source)
    assert (tmp_path / "out.onnx.data").exists()
    proof = prove_rewrite(source, target, [Size(45, 61)])
    assert proof.ok, proof.message
