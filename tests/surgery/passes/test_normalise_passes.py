import numpy as np
import onnx
import pytest

from anysize.sizes import Size
from anysize.surgery import free_axes, reduce_mean_to_global_pool, reshape_to_flatten
from anysize.surgery.storage.weightless import check

FLAT = 4 * 8 * 8


@pytest.mark.parametrize(
    "shape",
    [[1, FLAT], [-1, FLAT], [0, -1], [1, -1]],
    ids=["constant", "minus-one-k", "zero-minus-one", "one-minus-one"],
)
def test_a_reshape_that_flattens_becomes_flatten(kit, shape):
    model = kit.fc(
        "flat = Reshape (fmap, shape) scores = Gemm <transB = 1> (flat, w, b)",
        {"w": (5, FLAT), "b": (5,)}, constants={"shape": shape},
    )  # fmt: skip
    expected = kit.run(model, kit.images(1, 3, 32, 32))[0]
    result = reshape_to_flatten(model)
    assert result.applied
    assert result.nodes == ("flat",)
    assert result.model is model
    assert [node.op_type for node in model.graph.node][-2:] == ["Flatten", "Gemm"]
    assert "shape" not in {tensor.name for tensor in model.graph.initializer}
    check(free_axes(model))
    assert np.array_equal(kit.run(model, kit.images(1, 3, 32, 32))[0], expected)
    assert kit.run(model, kit.images(3, 3, 32, 32))[0].shape == (3, 5)


def test_shape_arithmetic_that_only_the_reshape_needed_goes_with_it(kit):
    model = kit.torch_export("dynamo-all")
    assert reshape_to_flatten(model, Size(63, 63)).applied
    kinds = {node.op_type for node in model.graph.node}
    assert kinds == {"Conv", "Relu", "MaxPool", "AveragePool", "Flatten", "Gemm"}
    check(model)


@pytest.mark.parametrize(
    ("shape", "outputs"),
    [([1, 8, -1], "float[1, 8, n] scores"), ([4, 64], "float[4, 64] scores")],
    ids=["three-axes", "channels-as-rows"],
)
def test_a_reshape_that_means_something_else_stays(kit, shape, outputs):
    model = kit.fc("scores = Reshape (fmap, s)", constants={"s": shape}, outputs=outputs)
    before = model.SerializeToString()
    result = reshape_to_flatten(model)
    assert not result.applied
    assert result.reason == "no Reshape or Squeeze flattens a map"
    assert model.SerializeToString() == before


def test_without_a_size_the_reshape_stays_and_the_reason_says_so(kit):
    model = free_axes(kit.plain())
    result = reshape_to_flatten(model)
    assert not result.applied
    assert result.reason == "the training size is not known"


@pytest.mark.parametrize(
    ("body", "opset", "kinds"),
    [
        ("scores = ReduceMean <axes = [2, 3], keepdims = 0> (fmap)", 17,
         ["GlobalAveragePool", "Flatten"]),
        ("p = ReduceMean <axes = [-1, -2], keepdims = 1> (fmap) scores = Flatten (p)", 13,
         ["GlobalAveragePool", "Flatten"]),
        ("scores = ReduceMean <keepdims = 0> (fmap, axes)", 18, ["GlobalAveragePool", "Flatten"]),
    ],
    ids=["attribute", "negative", "input"],
)  # fmt: skip
def test_a_mean_over_height_and_width_becomes_a_global_pooling(kit, body, opset, kinds):
    constants = {"axes": [2, 3]} if opset == 18 else None
    model = kit.fc(body, outputs="float[1, 4] scores", opset=opset, constants=constants)
    images = kit.images(1, 3, 32, 32)
    expected = kit.run(model, images)[0]
    assert reduce_mean_to_global_pool(model).applied
    check(model)
    assert [node.op_type for node in model.graph.node][-2:] == kinds
    assert np.allclose(kit.run(model, images)[0], expected, atol=1e-6)
    assert reduce_mean_to_global_pool(model).reason == "no ReduceMean in the graph"


def test_a_mean_over_something_else_stays(kit):
    model = kit.fc(
        "scores = ReduceMean <axes = [1, 2], keepdims = 0> (fmap)", outputs="float[1, 8] scores"
    )
    result = reduce_mean_to_global_pool(model)
    assert result.reason == "no ReduceMean is over height and width of a map"


def test_free_axes_names_the_axes_and_drops_stale_shapes(kit):
    model = onnx.shape_inference.infer_shapes(kit.plain())
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("w1", 1, [16, FLAT]))
    assert free_axes(model) is model
    assert [value.name for value in model.graph.value_info] == ["w1"]
    for value, names in (
        (model.graph.input[0], ["batch", 3, "height", "width"]),
        (model.graph.output[0], ["batch", 5]),
    ):
        dims = value.type.tensor_type.shape.dim
        assert [d.dim_param or d.dim_value for d in dims] == names


def test_free_axes_frees_only_what_is_asked(kit):
    model = free_axes(kit.plain(), batch=False, width=False)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == [1, 3, "height", 32]
    dims = model.graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == [1, 5]
