"""Architectures written by hand, as users write them, are exported right at every legal size."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

import anysize
from anysize.errors import VerificationError
from anysize.sizes import Size, SizeRange
from anysize.surgery import infer_shapes
from anysize.validators import Verdict

# The architectures belong to the benchmarks and are not installed.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from architectures.seeded import seeded
from architectures.table import ARCHITECTURES

BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
# One with an FC head, one with shapes in it, one with layer normalisation and Gelu.
OF_EVERY_KIND = ("vgg11", "spp_net", "convnext_tiny")
CHAOTIC = "efficientnet_b0"
OTHERS = [
    pytest.param(name, id=name, marks=pytest.mark.slow)
    for name in BY_NAME
    if name not in OF_EVERY_KIND
]


@functools.cache
def built(name):
    return BY_NAME[name].build(is_small=True)


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("name", BY_NAME)
def test_an_architecture_is_right_at_every_size(name, tmp_path):
    result = anysize.export(built(name), tmp_path / "out.onnx", size=BY_NAME[name].small_size)
    report = result.report
    assert report.ok
    assert {cell.batch for cell in report.cells} >= {1, 2}  # 3, too, where numbers are computed
    sizes = {cell.size for cell in report.cells if cell.verdict == "pass"}
    assert len(sizes) >= 5
    assert result.sizes.minimum in sizes
    model = onnx.load(result.path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} == {""}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BY_NAME if name != CHAOTIC])
def test_an_architecture_is_right_at_its_own_size(name, tmp_path):
    architecture = BY_NAME[name]
    network = architecture.build(is_small=False)
    assert anysize.export(network, tmp_path / "out.onnx", size=architecture.size).report.ok


@pytest.mark.slow
def test_a_network_that_multiplies_rounding_at_its_own_size_is_not_called_right(tmp_path):
    """EfficientNet's random weights turn float32 steps into more than the budget at 224 pixels."""
    architecture = BY_NAME[CHAOTIC]
    network = architecture.build(is_small=False)
    with pytest.raises(VerificationError, match="was not written"):
        anysize.export(network, tmp_path / "out.onnx", size=architecture.size)


@pytest.mark.parametrize(
    "opset", [13, *(pytest.param(middle, marks=pytest.mark.slow) for middle in (18, 21)), 24]
)
@pytest.mark.parametrize("name", [*OF_EVERY_KIND, *OTHERS])
def test_an_architecture_is_right_at_old_and_at_new_opsets(name, opset, tmp_path):
    size = BY_NAME[name].small_size
    result = anysize.export(built(name), tmp_path / "out.onnx", size=size, opset=opset)
    assert result.report.ok
    assert [entry.version for entry in onnx.load(result.path).opset_import] == [opset]


@pytest.mark.slow
def test_half_precision_of_a_network_that_multiplies_rounding_is_not_called_right(tmp_path):
    """EfficientNet's seeded weights turn the rounding of float16 into as much as the answer."""
    with pytest.raises(VerificationError, match="is not proved right and was not written"):
        anysize.export(built(CHAOTIC), tmp_path / "out.onnx", size="40x40", half=True)


@pytest.mark.parametrize("name", [*OF_EVERY_KIND, *(one for one in OTHERS if one.id != CHAOTIC)])
def test_an_architecture_in_half_precision_stays_within_its_profile(name, tmp_path):
    size = BY_NAME[name].small_size
    result = anysize.export(built(name), tmp_path / "out.onnx", size=size, half=True, verify=False)
    verdicts = {cell.verdict for cell in anysize.validate(result.path, built(name)).cells}
    # With seeded weights an image changes some answers by little more than float16 rounds.
    vacuous = set() if name in OF_EVERY_KIND else {Verdict.VACUOUS}
    assert verdicts - {Verdict.REJECTED} - vacuous == {Verdict.PASS}
    weights = {tensor.data_type for tensor in onnx.load(result.path).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in weights


def test_local_response_normalisation_is_one_node(tmp_path):
    network = built("age_gender")
    result = anysize.export(network, tmp_path / "out.onnx", size="227x227", verify=False)
    found = operators(result.path)
    assert found.count("LRN") == 2
    assert not {"AveragePool", "Pad", "Reshape", "Pow"} & set(found)
    assert result.outputs == ("age", "gender")
    assert result.sizes == SizeRange(Size(223, 223), Size(254, 254))


def test_a_classifier_by_convolution_has_no_shape_arithmetic(tmp_path):
    network = built("squeezenet1_1")
    result = anysize.export(network, tmp_path / "out.onnx", size="64x64", verify=False)
    model = onnx.load(result.path)
    body = [node for node in model.graph.node if not node.name.startswith("anysize_")]
    assert {node.op_type for node in body} == {
        "Conv",
        "Relu",
        "MaxPool",
        "Concat",
        "GlobalAveragePool",
        "Flatten",
    }
    pools = [node for node in body if node.op_type == "MaxPool"]
    assert all(a.name != "ceil_mode" for node in pools for a in node.attribute)
    assert infer_shapes(model, Size(64, 97))[model.graph.output[0].name] == (1, 10)


def test_gains_of_weights_that_are_normalised_in_use_stay_near_one():
    layer = nn.Conv2d(3, 8, 3)
    layer.gain = nn.Parameter(torch.ones(8, 1, 1, 1))
    assert float((seeded(layer).gain.detach() - 1).abs().max()) <= 0.2
    assert bool((layer.weight < 0).any())
