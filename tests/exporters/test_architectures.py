"""Architectures written by hand, as users write them, are exported right at every legal size."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import onnx
import pytest

import anysize
from anysize.sizes import Size, SizeRange
from anysize.surgery import infer_shapes
from anysize.validators import validate_model

# The architectures belong to the benchmarks and are not installed.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
SMALL = {"width": 8, "hidden": 64}


def case(module, name, size, *, marks=(), **options):
    return pytest.param(module, name, size, options, id=name, marks=marks)


QUICK = [
    case("alexnet", "alexnet", "80x80", **SMALL),
    case("vgg", "vgg11", "40x40", **SMALL),
    case("vgg", "ferplus", "64x64", width=8),
    case("googlenet", "googlenet", "40x40"),
    case("mobilenet_v3", "mobilenet_v3_small", "40x40"),
    case("squeezenet", "squeezenet1_1", "40x40"),
    case("arcface", "arcface", "112x112", width=8),
    case("age_gender", "age_gender", "227x227", width=8),
    case("pyramid_pooling", "spp_net", "45x45"),
    case("pyramid_pooling", "pyramid_scene", "29x29"),
    case("group_norm", "group_norm_net", "40x40"),
]
SLOW = [
    case("densenet", "densenet121", "32x32", marks=pytest.mark.slow),
    case("googlenet", "googlenet_bn", "40x40", marks=pytest.mark.slow),
    case("shufflenet_v2", "shufflenet_v2", "40x40", marks=pytest.mark.slow),
    case("mobilenet_v2", "mobilenet_v2", "40x40", marks=pytest.mark.slow),
    case("efficientnet", "efficientnet_b0", "40x40", marks=pytest.mark.slow),
    case("convnext", "convnext_tiny", "40x40", marks=pytest.mark.slow, depths=(1, 1, 2, 1)),
    case("regnet", "regnet_y_400mf", "40x40", marks=pytest.mark.slow),
]


def built(module, name, options):
    return getattr(importlib.import_module(f"architectures.{module}"), name)(**options)


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize(("module", "name", "size", "options"), [*QUICK, *SLOW])
def test_an_architecture_is_right_at_every_size(module, name, size, options, tmp_path):
    network = built(module, name, options)
    result = anysize.export(network, tmp_path / "out.onnx", size=size)
    report = result.report
    assert report.ok
    assert {cell.batch for cell in report.cells} == {1, 2}
    sizes = {cell.size for cell in report.cells if cell.verdict == "pass"}
    assert len(sizes) >= 5
    assert result.sizes.minimum in sizes
    model = onnx.load(result.path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} == {""}


@pytest.mark.parametrize(
    ("module", "name", "size", "options"),
    [
        case("pyramid_pooling", "spp_net", "21x21", width=8),
        case("pyramid_pooling", "pyramid_scene", "21x21", width=8),
        case("group_norm", "group_norm_net", "24x24", width=8),
        case("squeezenet", "squeezenet1_1", "20x20", classes=10),
    ],
)
def test_the_specification_agrees(module, name, size, options, tmp_path):
    network = built(module, name, options)
    path = anysize.export(network, tmp_path / "out.onnx", size=size, verify=False).path
    assert validate_model(path, network, runtimes=["onnx-reference"], name=name).ok


def test_local_response_normalisation_is_one_node(tmp_path):
    network = built("age_gender", "age_gender", {"width": 8})
    result = anysize.export(network, tmp_path / "out.onnx", size="227x227", verify=False)
    found = operators(result.path)
    assert found.count("LRN") == 2
    assert not {"AveragePool", "Pad", "Reshape", "Pow"} & set(found)
    assert result.outputs == ("age", "gender")
    assert result.sizes == SizeRange(Size(223, 223), Size(254, 254))


def test_a_classifier_by_convolution_has_no_shape_arithmetic(tmp_path):
    network = built("squeezenet", "squeezenet1_1", {"classes": 10})
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
