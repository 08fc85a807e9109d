"""What a graph takes beside its image, or instead of floats: made up where that can be done."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from anysize.errors import UnsupportedModelError, UsageError
from anysize.sizes import Size
from anysize.validators import Verdict, validate_model
from anysize.validators.inputs.cases import Case
from anysize.validators.inputs.images import make_images
from anysize.validators.inputs.signature import given_case, graph_inputs, make_inputs

FLOAT, BYTE = TensorProto.FLOAT, TensorProto.UINT8
IMAGE = ("image", FLOAT, ["n", 3, "h", "w"])
CASE = Case(Size(9, 10), 2)
SIZES = (Size(8, 8), Size(9, 12))
KINDS = {
    "a vector for each image": (("vector", FLOAT, ["n", 4]), (2, 4), np.float32),
    "an axis without a name": (("vector", FLOAT, [None, 4]), (2, 4), np.float32),
    "a mask of pixels": (("mask", TensorProto.BOOL, ["n", "h", "w"]), (2, 9, 10), np.bool_),
    "a second image": (("depth", FLOAT, ["n", 1, "h", "w"]), (2, 1, 9, 10), np.float32),
    "numbers of a fixed shape": (("scale", FLOAT, [3]), (3,), np.float32),
    "a scalar": (("scale", TensorProto.DOUBLE, []), (), np.float64),
}
UNKNOWN = {
    "whole numbers": (("ids", TensorProto.INT64, ["n", 4]), "range that nobody knows"),
    "an axis of its own": (("boxes", FLOAT, ["count", 4]), "axis 0 is not one of the image's"),
    "a second axis without a name": (("vector", FLOAT, ["n", None]), "axis 1 is not one"),
    "no shape": (("vector", FLOAT, None), "has no declared shape"),
    "too many": (("vector", FLOAT, [1 << 20, 1 << 20]), "more than 16777216 elements"),
}


def graph(*inputs):
    values = [helper.make_tensor_value_info(*value) for value in inputs]
    output = helper.make_tensor_value_info("y", FLOAT, None)
    node = helper.make_node("GlobalAveragePool", ["image"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", values, [output]))


@pytest.mark.parametrize(("value", "shape", "dtype"), KINDS.values(), ids=KINDS)
def test_an_input_whose_axes_are_known_is_made(value, shape, dtype):
    inputs = (IMAGE, value) if value[0] == "depth" else (value, IMAGE)
    spec = graph_inputs(graph(*inputs), 0)
    spec.require_made()
    made = make_inputs(CASE, spec, 0)
    assert list(made) == [name for name, *_ in inputs]
    assert (made[value[0]].shape, made[value[0]].dtype) == (shape, dtype)
    again = make_inputs(CASE, spec, 1)
    np.testing.assert_array_equal(made[value[0]], again[value[0]])
    assert not np.array_equal(made["image"], again["image"])


@pytest.mark.parametrize(("value", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_cannot_be_made_can_be_given(value, words):
    spec = graph_inputs(graph(IMAGE, value), 0)
    with pytest.raises(UnsupportedModelError, match=rf"input '{value[0]}': .*{words}.*--inputs"):
        spec.require_made()


def test_channels_last_are_told_from_an_image_of_many_channels():
    value = helper.make_tensor_value_info("image", FLOAT, ["n", 32, 32, 3])
    output = helper.make_tensor_value_info("y", FLOAT, None)
    nodes = [
        helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["first"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [value], [output]))
    spec = graph_inputs(model, 0)
    assert (spec.channels, spec.layout.words) == (3, "channels last")
    case = Case(Size(4, 5), 2)
    (image,) = make_inputs(case, spec, 0).values()
    first = make_images(case.size, 2, channels=3, seed=0)
    np.testing.assert_array_equal(image, first.transpose(0, 2, 3, 1))
    assert given_case({"image": image}, spec)[0] == case
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "c"
    with pytest.raises(UnsupportedModelError, match=r"not declared, .* in axis 3"):
        graph_inputs(model, 0)


def test_bytes_are_images_of_bytes():
    spec = graph_inputs(graph(("image", BYTE, ["n", 3, "h", "w"])), 0)
    (image,) = make_inputs(CASE, spec, 0).values()
    floats = make_images(CASE.size, CASE.batch, channels=3, seed=0)
    assert image.dtype == np.uint8
    inside = (np.abs(floats) < 3).nonzero()
    np.testing.assert_allclose(image[inside] / 42.5 - 3, floats[inside], atol=0.5 / 42.5 + 1e-6)
    assert len(np.unique(image)) > 100


def test_given_inputs_are_checked_against_the_graph():
    spec = graph_inputs(graph(IMAGE, ("ids", TensorProto.INT64, ["n", 4])), 0)
    image, ids = np.zeros((2, 3, 8, 9), np.float32), np.zeros((2, 4), np.int64)
    case, ordered = given_case({"ids": ids, "image": image}, spec)
    assert case == Case(Size(8, 9), 2)
    assert list(ordered) == ["image", "ids"]
    for wrong, words in (
        ({"image": image}, "got image, expected image, ids"),
        ({"image": image, "ids": ids.astype(np.int32)}, "'ids' is int32, expected int64"),
        ({"image": image, "ids": ids[:, :3]}, r"'ids' has shape \[2, 3\], expected \[batch, 4\]"),
        ({"image": image[:, :1], "ids": ids}, r"expected \[batch, 3, height, width\]"),
        ({"image": image[:0], "ids": ids}, "'image' is empty"),
    ):
        with pytest.raises(UsageError, match=words):
            given_case(wrong, spec)


class Meta(nn.Module):
    """Classifies an image with a vector beside it, which comes first."""

    def __init__(self, *, is_byte=False, is_index=False):
        super().__init__()
        torch.manual_seed(0)
        self.is_byte = is_byte
        self.table = nn.Embedding(6, 4) if is_index else nn.Identity()
        self.conv = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(8, 5)

    def forward(self, vector, image):
        if self.is_byte:
            image = image.float() / 255 - torch.full((1, 3, 1, 1), 0.5)
        features = torch.relu(self.conv(image)).mean((2, 3))
        return self.linear(torch.cat([self.table(vector), features], 1))


def exported(path, module, vector, image, *, swaps=False):
    names = ["vector", "image"]
    free = {"vector": {0: "batch"}, "image": {0: "batch", 2: "height", 3: "width"}}
    torch.onnx.export(
        module, (vector, image), path, input_names=names, dynamic_axes=free, dynamo=False
    )
    if swaps:
        model = onnx.load(path)
        model.graph.input.reverse()
        onnx.save(model, path)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("is_byte", [False, True], ids=["floats", "bytes"])
def test_a_network_with_two_inputs_is_validated(tmp_path, is_byte):
    module = Meta(is_byte=is_byte).eval()
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8 if is_byte else torch.float32)
    path = exported(tmp_path / "m.onnx", module, torch.zeros(1, 4), image)
    report = validate_model(path, module, runtimes=("ort-cpu", "onnx-reference"), sizes=SIZES)
    assert {cell.verdict for cell in report.cells} == {Verdict.PASS}
    assert report.cells[0].outputs[0].deviation.budget < 1e-5  # the arbiter kept its digits
    other = Meta(is_byte=is_byte).eval()
    with torch.no_grad():
        other.linear.weight[:, :4] *= 1.01  # what the vector alone contributes
    assert validate_model(path, other, sizes=SIZES).exit_code == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_index_is_given_as_an_array(tmp_path):
    module = Meta(is_index=True).eval()
    index = torch.tensor([0])
    path = exported(tmp_path / "m.onnx", module, index, torch.zeros(1, 3, 8, 8))
    with pytest.raises(UnsupportedModelError, match="'vector': is int64"):
        validate_model(path, module, sizes=SIZES)
    inputs = {
        "vector": np.array([5, 2]),
        "image": make_images(SIZES[1], 2, channels=3, seed=3),
    }
    report = validate_model(path, module, inputs=inputs)
    assert [(cell.size, cell.batch, cell.verdict) for cell in report.cells] == [
        (SIZES[1], 2, Verdict.PASS)
    ]
