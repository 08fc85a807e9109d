import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size
from anysize.surgery import IllegalSizeError, guard_map_size, guard_min_size, infer_shapes
from anysize.surgery.graph import Graph
from anysize.surgery.shapes.walk import ShapeWalk
from anysize.surgery.shapes.windows import SlidingWindow


def _torch_cells(module, cells):
    import torch

    try:
        return module(torch.zeros(1, 1, cells)).shape[-1]
    except RuntimeError:
        return 0


@settings(max_examples=300, deadline=None)
@given(
    cells=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 5),
    dilation=st.integers(1, 3), pad=st.integers(0, 3), has_ceil=st.booleans(),
)  # fmt: skip
def test_pooling_windows_are_counted_as_pytorch_counts_them(
    cells, kernel, stride, dilation, pad, has_ceil
):
    from torch import nn

    pad = min(pad, kernel // 2)
    window = SlidingWindow(kernel, stride, dilation, pad, pad, has_ceil)
    module = nn.MaxPool1d(kernel, stride, pad, dilation, ceil_mode=has_ceil)
    assert max(0, window.output_cells(cells)) == _torch_cells(module, cells)
    if dilation == 1:
        module = nn.AvgPool1d(kernel, stride, pad, ceil_mode=has_ceil)
        assert max(0, window.output_cells(cells)) == _torch_cells(module, cells)


@settings(max_examples=200, deadline=None)
@given(
    cells=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 5),
    dilation=st.integers(1, 3), pad=st.integers(0, 4),
)  # fmt: skip
def test_convolution_windows_are_counted_as_pytorch_counts_them(
    cells, kernel, stride, dilation, pad
):
    from torch import nn

    window = SlidingWindow(kernel, stride, dilation, pad, pad)
    module = nn.Conv1d(1, 1, kernel, stride, pad, dilation)
    assert max(0, window.output_cells(cells)) == _torch_cells(module, cells)


def test_every_tensor_has_the_shape_that_a_runtime_gives_it(kit):
    model = kit.make(
        """conv = Conv <kernel_shape = [3, 5], strides = [2, 1], auto_pad = "SAME_UPPER"> (image, w)
           pool = AveragePool <kernel_shape = [3, 2], strides = [2, 3], ceil_mode = 1> (conv)
           padded = Pad (pool, pads)
           up = Resize <mode = "nearest"> (padded, none, scales)
           left, right = Split <axis = 1> (up)
           both = Concat <axis = 1> (right, left, up)
           turned = Transpose <perm = [0, 2, 3, 1]> (both)
           mean = ReduceMean <axes = [2], keepdims = 0> (turned)
           sides = Shape (up)
           half = Div (sides, two)
           flat = Flatten (both)
           column = Unsqueeze (flat, one)
           scores = Identity (mean)""",
        weights={"w": (4, 3, 3, 5)},
        floats={"none": [], "scales": [1, 1, 2, 3]},
        constants={"pads": [0, 0, 1, 0, 0, 0, 2, 3], "two": 2, "one": [1]},
        image="n, 3, h, w",
        outputs="float[a, b, c] scores",
    )
    for node in model.graph.node:
        for name in node.output:
            if name != "scores":
                element = 7 if name in ("sides", "half") else 1
                value = onnx.helper.make_tensor_value_info(name, element, None)
                model.graph.output.append(value)
    for size in (Size(17, 40), Size(32, 23)):
        shapes = infer_shapes(model, size, 2)
        found = kit.run(model, kit.images(2, 3, size.height, size.width))
        names = [output.name for output in model.graph.output]
        assert {name: shapes[name] for name in names} == {
            name: array.shape for name, array in zip(names, found, strict=True)
        }


def test_shape_arithmetic_is_followed_through_division_and_maximum(kit):
    model = kit.make(
        """all = Shape <start = 2> (image)
           half = Div (all, two)
           some = Max (half, five)
           even = Mod (some, two)
           less = Sub (some, even)
           is_large = Greater (less, five)
           sides = Where (is_large, less, five)
           target = Concat <axis = 0> (keep, sides)
           scores = ConstantOfShape (target)""",
        constants={"two": [2, 2], "five": [5, 5], "keep": [1, 3]},
        image="n, 3, h, w",
        outputs="float[a, b, c, d] scores",
    )
    assert infer_shapes(model, Size(31, 4))["scores"] == (1, 3, 14, 5)


def test_a_window_that_does_not_fit_is_illegal_and_names_the_node(kit):
    with pytest.raises(IllegalSizeError) as caught:
        infer_shapes(kit.plain(), Size(1, 32))
    assert caught.value.node == "fmap"
    assert "node 'fmap' cannot take an image of 1x32" in str(caught.value)
    assert "expected every side ≥ 1" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "weights", "words"),
    [
        ("f = Flatten (image) scores = Gemm (f, w)", {"w": (3072, 5)}, "expected 3072 for"),
        ("f = Flatten (image) scores = MatMul (f, w)", {"w": (3072, 5)}, "expected 3072 for"),
        ("scores = Add (image, w)", {"w": (32, 32)}, "do not broadcast"),
        ("scores = Concat <axis = 1> (image, w)", {"w": (1, 2, 32, 32)}, "cannot join"),
        ("scores = Reshape (image, s)", {}, "cannot reshape"),
        ("a, b = Split <axis = 3> (image) scores = Relu (a)", {}, "node 'a'"),
    ],
    ids=["gemm", "matmul", "add", "concat", "reshape", "onnx"],
)  # fmt: skip
def test_sizes_that_do_not_match_are_illegal(kit, body, weights, words):
    model = _unchecked(kit, body, weights)
    infer_shapes(model, Size(32, 32))
    with pytest.raises(IllegalSizeError, match=words):
        infer_shapes(model, Size(32, 33))


def _unchecked(kit, body, weights):
    model = kit.make(
        "scores = Relu (image)", weights=weights, outputs="float[1, 3, 32, 32] scores",
        constants={"s": [1, 3, 32, 32]},
    )  # fmt: skip
    head = '<ir_version: 8, opset_import: ["" : 17]> n (float[1, 3, 32, 32] image) => ()'
    parsed = onnx.parser.parse_model(f"{head} {{ {body} }}")
    del model.graph.node[:]
    model.graph.node.extend(parsed.graph.node)
    for node in model.graph.node:
        node.name = node.output[0]
    del model.graph.output[:]
    return model


@pytest.mark.parametrize("operator", ["Conv", "Gemm", "MatMul"])
def test_an_operator_without_its_weight_is_illegal_and_names_the_node(kit, operator):
    model = kit.plain()
    node = next(n for n in model.graph.node if n.op_type in (operator, "Gemm"))
    node.op_type = operator
    del node.input[1:]
    with pytest.raises(IllegalSizeError, match=f"{operator} does not take"):
        infer_shapes(model, Size(32, 32))


def test_an_input_of_another_type_is_illegal_and_names_the_node(kit):
    model = _unchecked(kit, "scores = ScatterND (image, w, w)", {"w": (3072, 5)})
    with pytest.raises(IllegalSizeError, match=r"node 'scores' cannot take .* unsupported type"):
        infer_shapes(model, Size(32, 32))


def test_an_attribute_of_another_type_is_illegal_and_names_the_node(kit):
    model = kit.plain()
    flatten = next(n for n in model.graph.node if n.op_type == "Flatten")
    del flatten.attribute[:]
    flatten.attribute.append(onnx.helper.make_attribute("axis", [1, 2]))
    with pytest.raises(IllegalSizeError, match="Flatten does not take"):
        infer_shapes(model, Size(32, 32))


def test_a_tensor_that_depends_on_values_is_absent(kit):
    model = kit.make(
        "where = NonZero (image) some = Cast <to = 1> (where) scores = Identity (some)",
        outputs="float[a, b] scores",
    )
    shapes = infer_shapes(model, Size(8, 8))
    assert "scores" not in shapes
    assert shapes["image"] == (1, 3, 8, 8)


def test_a_walk_to_a_target_passes_over_what_lies_behind(kit):
    shapes = ShapeWalk(Graph(kit.plain()), ["fmap"]).shapes(Size(100, 60))
    assert shapes["fmap"] == (1, 4, 25, 15)
    assert "scores" not in shapes


def test_weights_are_not_needed(kit):
    model = kit.plain()
    expected = infer_shapes(model, Size(32, 32))
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
    assert infer_shapes(model, Size(32, 32)) == expected


def test_local_functions_are_followed(kit):
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
        net (float[1, 3, 32, 32] image) => (float[1, 3, 16, 16] scores)
        { scores = own.halve (image) }
        <domain: "own", opset_import: ["" : 18]>
        halve (x) => (y) { y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) }"""
    )
    assert infer_shapes(model, Size(20, 9))["scores"] == (1, 3, 10, 4)


def test_a_graph_without_image_is_unsupported(kit):
    model = kit.plain()
    del model.graph.input[0].type.tensor_type.shape.dim[3:]
    with pytest.raises(UnsupportedModelError, match=r"expected an image, which has two sides"):
        infer_shapes(model, Size(32, 32))


@pytest.mark.parametrize("opset", [13, 17], ids=["gather", "start"])
def test_a_guard_refuses_what_lies_below_and_nothing_else(kit, opset):
    model = kit.make(
        kit.BACKBONE + "p = GlobalAveragePool (fmap) scores = Flatten (p)",
        weights=kit.BACKBONE_WEIGHTS, image="n, 3, h, w", outputs="float[n, 4] scores", opset=opset,
    )  # fmt: skip
    expected = kit.run(model, kit.images(2, 3, 9, 14))[0]
    guard_min_size(guard_min_size(model, Size(3, 3)), Size(5, 7))
    onnx.checker.check_model(model, full_check=True)
    assert np.array_equal(kit.run(model, kit.images(2, 3, 9, 14))[0], expected)
    assert kit.run(model, kit.images(2, 3, 5, 7))[0].shape == (2, 4)
    for height, width in ((4, 7), (5, 6), (4, 100)):
        with pytest.raises(Exception, match=r"nvalid|eshape"):
            kit.run(model, kit.images(1, 3, height, width))
        with pytest.raises(IllegalSizeError):
            infer_shapes(model, Size(height, width))


def test_a_map_guard_refuses_another_map_of_equally_many_cells(kit):
    from anysize.surgery import free_axes

    model = free_axes(kit.plain())
    other = kit.images(1, 3, 16, 64)  # 4×16 cells, where 8×8 were trained
    assert kit.run(model, other)[0].shape == (1, 5), "without the guard the runtime answers"
    guard_map_size(model, "fmap", Size(32, 32))
    assert kit.run(model, kit.images(2, 3, 32, 32))[0].shape == (2, 5)
    for images in (other, kit.images(1, 3, 64, 16), kit.images(1, 3, 40, 40)):
        with pytest.raises(Exception, match=r"nvalid|eshape"):
            kit.run(model, images)
