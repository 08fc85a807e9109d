"""`anysize inspect`: the head, the sizes, and what could be done, without running anything."""

from __future__ import annotations

import json
import math

import onnx
import pytest
import torch
from onnx import TensorProto, helper

import anysize
from anysize.models import resolve
from anysize.sizes import Size

VGG16 = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"


def sparse_vgg16(folder):
    """VGG-16 as a file whose 528 MiB of weights lie in one place, where there are only zeros."""
    nodes, weights, channels, last, largest = [], [], 3, "input", 0

    def weight(name, *dims):
        nonlocal largest
        tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
        size_bytes = 4 * math.prod(dims)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "zeros"), ("offset", 0), ("length", size_bytes)):
            tensor.external_data.add(key=key, value=str(value))
        largest = max(largest, size_bytes)
        weights.append(tensor)
        return name

    for index, layer in enumerate(VGG16.split()):
        made = f"layer{index}"
        if layer == "M":
            nodes.append(
                helper.make_node("MaxPool", [last], [made], kernel_shape=[2, 2], strides=[2, 2])
            )
        else:
            inputs = [last, weight(f"{made}.w", int(layer), channels, 3, 3)]
            inputs.append(weight(f"{made}.b", int(layer)))
            nodes.append(helper.make_node("Conv", inputs, [f"{made}.c"], pads=[1, 1, 1, 1]))
            nodes.append(helper.make_node("Relu", [f"{made}.c"], [made]))
            channels = int(layer)
        last = made
    nodes.append(helper.make_node("Flatten", [last], ["flat"]))
    last, features = "flat", 512 * 7 * 7
    for index, units in enumerate((4096, 4096, 1000)):
        inputs = [last, weight(f"fc{index}.w", units, features), weight(f"fc{index}.b", units)]
        last, features = f"fc{index}", units
        nodes.append(helper.make_node("Gemm", inputs, [last], transB=1))
        if index < 2:
            nodes.append(helper.make_node("Relu", [last], [f"{last}.r"]))
            last = f"{last}.r"
    images = helper.make_tensor_value_info("input", TensorProto.FLOAT, ("batch", 3, "h", "w"))
    logits = helper.make_tensor_value_info(last, TensorProto.FLOAT, ("batch", 1000))
    graph = helper.make_graph(nodes, "vgg16", [images], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = folder / "vgg16.onnx"
    path.write_bytes(model.SerializeToString())
    block = bytes(1 << 20)
    with (folder / "zeros").open("wb") as stream:
        for _ in range(-(-largest // len(block))):
            stream.write(block)
    return path


def test_vgg16_has_89_percent_of_its_weights_in_fc_layers_and_takes_224_to_255(tmp_path, run):
    path = sparse_vgg16(tmp_path)
    done = run("inspect", path, "--sizes", "224x224,255x240,256x256")
    assert (done.code, done.err) == (0, "")
    assert "138,357,544 weights" in done.out
    assert "512×7×7 = 25,088 inputs; 123,642,856 weights, 89.4% of all" in done.out
    assert "224x224 to 255x255" in done.out
    assert "255x240: 1×1000" in done.out
    assert "256x256: node" in done.out
    assert f"anysize rewrite {path} -o any.onnx --size HEIGHTxWIDTH" in done.out


def test_without_a_size_the_possible_maps_are_named(tmp_path):
    inspection = anysize.inspect(sparse_vgg16(tmp_path))
    assert inspection.head is None
    assert "25088 inputs, which is 512×7×7" in inspection.no_head
    assert inspection.legal is None


@pytest.mark.parametrize("mode", ["torchscript", "dynamo"])
def test_a_static_file_takes_the_size_that_it_declares(small_exports, mode):
    sizes = (anysize.Size(32, 32), anysize.Size(33, 32))
    inspection = anysize.inspect(small_exports[mode], sizes)
    assert str(inspection.training_size) == "32x32"
    assert inspection.head is not None
    assert (inspection.head.channels, str(inspection.head.map_size)) == (12, "3x3")
    assert inspection.head.weights == 20 * 108 + 20 + 16 * 20 + 16 + 7 * 16 + 7
    assert "32x32 only" in inspection.to_text()
    assert [facts.is_legal for facts in inspection.sizes] == [True, False]
    assert inspection.sizes[0].outputs == ((1, 7),)
    assert inspection.sizes[1].reason == "the file declares 32x32"
    assert any(line.startswith("anysize rewrite") for line in inspection.advice)


def test_an_fc_export_is_described_by_its_interval(digits_files):
    inspection = anysize.inspect(digits_files["fc"])
    assert inspection.head is not None
    assert str(inspection.legal) == "32x32 to 35x35"
    assert (inspection.model, inspection.recorded_head) == ("digits", "fc")


@pytest.mark.parametrize(
    ("name", "smallest", "outputs"),
    [("fcn", "32x32", ((1, 11, 5, 9),)), ("gap", "20x20", ((1, 11),))],
)
def test_a_file_for_any_size_says_why_and_from_where(digits_files, name, smallest, outputs):
    inspection = anysize.inspect(digits_files[name], [anysize.Size(48, 64)])
    assert inspection.head is None
    assert inspection.no_head.startswith("any size: ")
    assert str(inspection.legal) == f"{smallest} and up"
    assert inspection.sizes[0].outputs == outputs
    rewrites = [line for line in inspection.advice if line.startswith("anysize rewrite")]
    assert all(line.endswith("--to cam") for line in rewrites)
    assert len(rewrites) == (1 if name == "gap" else 0)


def test_a_rewritten_file_can_be_looked_at(rewritten_digits):
    inspection = anysize.inspect(rewritten_digits)
    assert inspection.no_head.startswith("any size: ")
    assert any(line.startswith("anysize heatmap") for line in inspection.advice)


@pytest.mark.parametrize("head", ["spp", "adaptive", "resize"])
def test_pooling_to_a_fixed_map_takes_any_size(head, tmp_path):
    path = tmp_path / "lenet.onnx"
    anysize.export("lenet", path, head=head, verify=False)
    inspection = anysize.inspect(path)
    assert inspection.no_head.startswith("any size: ")
    assert inspection.legal is not None
    assert inspection.legal.maximum is None


def test_json_says_the_same(digits_files, run):
    done = run("inspect", digits_files["fc"], "--sizes", "32x32", "--json")
    facts = json.loads(done.out)
    assert facts["training_size"] == "32x32"
    assert facts["legal"] == {"minimum": "32x32", "maximum": "35x35"}
    assert facts["head"]["inputs"] == facts["head"]["channels"] * 16
    assert facts["sizes"] == [
        {"is_legal": True, "outputs": [[1, 11]], "reason": "", "size": "32x32"}
    ]


def test_a_network_is_told_why_it_takes_its_sizes_and_how_to_go_on_with_what_was_given(
    small_folder, run, monkeypatch
):
    monkeypatch.chdir(small_folder)
    torch.save(resolve("small_net:make", size=Size(32, 32)).module.state_dict(), "small.pt")
    done = run("inspect", "small_net:make", "--size", "32", "--weights", "small.pt")
    assert done.code == 0, done.err
    assert "  why     FC weights fit one number of inputs" in done.out
    command = "anysize export small_net:make --head fcn --size 32x32 --weights small.pt -o fcn.onnx"
    assert command in done.out


def test_a_file_says_how_its_images_are_prepared_and_what_its_classes_are_called(
    digits_files, tmp_path, run
):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"class {place}" for place in range(11)))
    path = tmp_path / "any.onnx"
    options = ("--no-verify", "--classes", names, "--mean", "0.5")
    assert run("rewrite", digits_files["fc"], "-o", path, *options).code == 0
    text = run("inspect", path).out
    assert "  images  mean 0.5\n" in text
    assert "  classes 11: class 0, class 1" in text
    assert "why" not in text  # it takes every size


def test_a_file_whose_weights_are_beside_it_says_where(tmp_path, run):
    path = tmp_path / "lenet.onnx"
    options = ("--no-verify", "--external-data", "always", "-o", path)
    assert (
        f", its weights in {path.name}.data; not verified" in run("export", "lenet", *options).out
    )
