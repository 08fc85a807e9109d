"""The float16 profile knows what float16 costs a module, and is no licence."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import anysize
from anysize.sizes import Size
from anysize.validators.judging.budget import EPS16, PROFILES, float_deviation
from anysize.validators.references.rounded import rounded_copy


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()


def test_a_rounded_copy_has_float16_weights_and_the_module_keeps_its_own():
    module = network()
    before = [parameter.clone() for parameter in module.parameters()]
    rounded = rounded_copy(module)
    for own, old, half in zip(module.parameters(), before, rounded.parameters(), strict=True):
        assert torch.equal(own, old)
        assert half.dtype == torch.float32
        assert torch.equal(half, own.half().float())


def test_a_rounded_copy_reads_float16_values():
    rounded = rounded_copy(network())
    images = torch.full((1, 1, 6, 6), 0.1)
    with torch.inference_mode():
        assert torch.equal(rounded(images), rounded(images.half().float()))
        assert not torch.equal(rounded(images), network()(images))


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm([4, 2, 2])], ids=repr
)
def test_a_normalisation_magnifies_what_was_rounded_before_it(norm):
    """Values that differ by little become values of size 1, and so does their rounding."""
    images = 1 + 1e-3 * torch.rand(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        error = (rounded_copy(norm.eval())(images) - norm(images)).abs().max()
    assert error > 100 * EPS16


def test_the_larger_one_of_both_errors_counts_as_the_references_own():
    truth = np.array([[1.0, -0.5]])
    profile = PROFILES["float16"]
    for error in (1e-2, 1e-6):
        found = float_deviation(
            truth, truth.astype(np.float32), truth, profile=profile, rounded=truth + error
        )
        assert np.isclose(found.budget, 4 * max(error, EPS16 / 2))


def test_an_overflow_of_the_rounded_copy_widens_nothing():
    truth = np.array([[1.0, -0.5]])
    rounded = np.array([[np.inf, -0.5]])
    profile = PROFILES["float16"]
    found = float_deviation(truth, truth, truth, profile=profile, rounded=rounded)
    assert found.budget == 4 * EPS16 / 2


def test_weights_of_fewer_bits_are_outside_the_profile(tmp_path):
    """Eight-bit weights are what the profile must not let through."""
    path = tmp_path / "half.onnx"
    anysize.export("digits", path, head="gap", half=True, verify=False)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16 and len(tensor.dims) > 1:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            step = np.abs(array).max() / 127
            coarse = (np.round(array / step) * step).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(coarse, tensor.name))
    onnx.save(model, path)
    report = anysize.validate(path, sizes=[Size(32, 32)])
    assert {cell.verdict for cell in report.cells} == {"mismatch"}
    assert report.notes == ("no case has brighter images: half precision may overflow on them",)
