"""The image's axes are told by what the first sliding window does with them."""

import numpy as np
import onnx
import onnx.helper
import onnx.parser
import onnxruntime
import pytest

from anysize.errors import DeclinedError
from anysize.sizes import Size, SizeRange, Steps
from anysize.surgery import (
    free_axes,
    guard_max_size,
    guard_min_size,
    infer_shapes,
    static_size,
    trained_size,
)
from anysize.surgery.graph import (
    Graph,
    as_transpose,
    image_layout,
    is_turned_image,
    require_sides_together,
)
from anysize.surgery.size_guard import guard_steps

CONV = "conv = Conv <pads = [1, 1, 1, 1]> (first, w) scores = GlobalAveragePool (conv)"
POOL = "scores = GlobalAveragePool (first)"
FIRST = "first = Transpose <perm = [0, 3, 1, 2]> "
LAST = "n, 24, 32, 3"
GREY = "n, 24, 32, 1"

# name → (nodes, declared image)
CHANNELS_LAST = {
    "Transpose": (FIRST + "(image)" + CONV, LAST),
    "Transpose to width × height": (
        "first = Transpose <perm = [0, 3, 2, 1]> (image)" + CONV, LAST),
    "pooling first": (FIRST + "(image) first2 = MaxPool <kernel_shape = [2, 2]> (first) "
                      "scores = GlobalAveragePool (first2)", LAST),
    "global average first": (FIRST + "(image)" + POOL, LAST),
    "symbolic sides": (FIRST + "(image)" + CONV, "n, h, w, 3"),
    "grey, Reshape": ("first = Reshape (image, grey)" + CONV, GREY),
    "grey, one image": ("first = Reshape (image, grey)" + CONV, "1, 24, 32, 1"),
    "grey, the batch built in": ("first = Reshape (image, grey_alone)" + CONV, GREY),
    "grey, symbolic height": ("first = Reshape (image, grey_high)" + CONV, "n, h, 32, 1"),
    "grey, computed target": (
        "s = Shape (image) b = Slice (s, zero, one) t = Concat <axis = 0> (b, grey_rest) "
        "first = Reshape (image, t)" + CONV, GREY),
    "grey, Squeeze and Unsqueeze": (
        "flat = Squeeze (image, three) first = Unsqueeze (flat, one)" + CONV, GREY),
    "grey, Squeeze of all": ("flat = Squeeze (image) first = Unsqueeze (flat, one)" + CONV, GREY),
    "grey to three channels": (
        "c = Concat <axis = 3> (image, image, image)" + FIRST + "(c)" + CONV, GREY),
    "Rescaling": ("m = Mul (image, scale) a = Add (m, offset)" + FIRST + "(a)" + CONV, LAST),
    "Normalization": (
        "m = Sub (image, offset) a = Div (m, offset4)" + FIRST + "(a)" + CONV, LAST),
    "Cast": ("m = Cast <to = 1> (image)" + FIRST + "(m)" + CONV, LAST),
    "Pad": ("m = Pad (image, pads)" + FIRST + "(m)" + CONV, LAST),
    "BGR by Slice": ("m = Slice (image, two, less, three, back)" + FIRST + "(m)" + CONV, LAST),
    "BGR by Gather": ("m = Gather <axis = 3> (image, bgr)" + FIRST + "(m)" + CONV, LAST),
    "BGR by Split and Concat": (
        "r, g, b = Split <axis = -1> (image, thirds) m = Concat <axis = 3> (b, g, r)"
        + FIRST + "(m)" + CONV, LAST),
    "BGR by single channels": (
        "r = Gather <axis = 3> (image, scalar) u = Unsqueeze (r, three) "
        "m = Concat <axis = 3> (u, u, u)" + FIRST + "(m)" + CONV, LAST),
    "matrix of colours": ("m = MatMul (image, colours)" + FIRST + "(m)" + CONV, LAST),
    "less its own mean": (
        "mean = ReduceMean <axes = [1, 2, 3], keepdims = 1> (image) m = Sub (image, mean)"
        + FIRST + "(m)" + CONV, LAST),
    "less its mean, axes dropped": (
        "mean = ReduceMean <keepdims = 0> (image) m = Sub (image, mean)" + FIRST + "(m)" + CONV,
        LAST),
    "quantised": ("q = QuantizeLinear (image, scale, zero8) m = DequantizeLinear (q, scale, zero8)"
                  + FIRST + "(m)" + CONV, LAST),
    "resized": (FIRST + "(image) r = Resize (first, , scales) "
                "scores = GlobalAveragePool (r)", LAST),
    "channels normalised": (
        FIRST + "(image) scores = BatchNormalization (first, g, g, g, g)", LAST),
    "patches of an image": ("scores = Flatten (image)", "n, 24, 32, 3"),
}  # fmt: skip

CHANNELS_FIRST = {
    "plain": ("first = Identity (image)" + CONV, "n, 3, 24, 32"),
    "narrow image": ("first = Identity (image)" + CONV, "n, 24, 24, 3"),
    "there and back": (
        "t = Transpose <perm = [0, 2, 3, 1]> (image) m = Mul (t, offset)" + FIRST + "(m)" + CONV,
        "n, 3, 24, 32"),
    "grey, there and back": (
        "t = Reshape (image, grey_last) first = Reshape (t, grey)" + CONV, "n, 1, 24, 32"),
    "rows read as columns": (
        "first = Transpose <perm = [0, 1, 3, 2]> (image)" + CONV, "n, 3, 24, 32"),
    "pitches normalised before the window": (
        "t = Transpose <perm = [0, 3, 2, 1]> (image) "
        "m = BatchNormalization (t, g32, g32, g32, g32) "
        "first = Transpose <perm = [0, 3, 2, 1]> (m)" + CONV, "n, 1, 24, 32"),
    "each channel blurred by itself": (
        "t = Transpose <perm = [1, 0, 2, 3]> (image) b = AveragePool <kernel_shape = [3, 3]> (t) "
        "first = Identity (image)" + CONV, "1, 3, 24, 32"),
    "nothing tells": ("scores = Flatten (image)", "n, c, h, w"),
    "small sides": ("scores = Flatten (image)", "n, 4, 5, 3"),
}  # fmt: skip


def layout_model(nodes: str, image: str) -> onnx.ModelProto:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[{image}] image) => (float scores) {{ {nodes} }}"""
    model = onnx.parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    arrays = {
        "w": np.ones((4, 3, 3, 3), np.float32),
        "colours": np.eye(3, dtype=np.float32),
        "scale": np.float32(0.5), "zero8": np.uint8(0),
        "offset": np.ones(3, np.float32), "offset4": np.ones((1, 1, 1, 3), np.float32),
        "g": np.ones(3, np.float32), "g32": np.ones(32, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "pads": np.array([0, 1, 1, 0, 0, 1, 1, 0]),
        "grey": np.array([-1, 1, 24, 32]), "grey_alone": np.array([1, 1, 24, 32]),
        "grey_high": np.array([0, 1, -1, 32]), "grey_last": np.array([-1, 24, 32, 1]),
        "grey_rest": np.array([1, 24, 32]), "bgr": np.array([2, 1, 0]),
        "thirds": np.array([1, 1, 1]), "scalar": np.array(1),
        "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]),
        "three": np.array([3]), "back": np.array([-1]), "less": np.array([-9]),
    }  # fmt: skip
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name)
        for name, array in arrays.items()
        if name in read
    )
    return model


@pytest.mark.parametrize(("nodes", "image"), CHANNELS_LAST.values(), ids=CHANNELS_LAST)
def test_channels_last_are_seen_behind_whatever_an_exporter_puts_before_the_window(nodes, image):
    layout = image_layout(layout_model(nodes, image))
    assert layout.words == "channels last"
    assert (layout.batch, layout.height, layout.width, layout.channels) == (0, 1, 2, 3)


@pytest.mark.parametrize(("nodes", "image"), CHANNELS_FIRST.values(), ids=CHANNELS_FIRST)
def test_channels_first_are_not_taken_for_last(nodes, image):
    layout = image_layout(layout_model(nodes, image))
    assert layout.words == "channels first"
    assert (layout.batch, layout.channels, layout.height, layout.width) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "nodes",
    [
        "t = Reshape (image, patches) first = Transpose <perm = [0, 3, 1, 2]> (t)" + CONV,
        "t = NonZero (image) first = Cast <to = 1> (t)" + CONV,
        "first = MatMul (image, image)" + CONV,
        "first = Gather (image, image)" + CONV,
        "t = Transpose <perm = [0, 2, 3, 1]> (image) first = Add (t, image)" + CONV,
    ],
    ids=["sides cut in two", "places", "two images", "computed index", "axes differ"],
)
def test_where_the_axes_are_lost_no_window_tells(nodes):
    model = layout_model(nodes, "n, c, h, w")
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array([-1, 4, 4, 48]), "patches")
    )
    assert image_layout(model).witness is None


def test_a_window_inside_a_function_tells():
    model = layout_model("scores = own.net (image)", "n, h, w, 3")
    model.graph.node[0].domain = "own"
    function = onnx.parser.parse_function(
        '<domain: "own", opset_import: ["" : 17]> net (x) => (y) '
        "{ t = Transpose <perm = [0, 3, 1, 2]> (x) y = GlobalAveragePool (t) }"
    )
    model.functions.append(function)
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    layout = image_layout(model)
    assert (layout.channels, layout.witness) == (3, None)


def test_channels_between_the_sides_are_declined_by_their_axis():
    model = layout_model("first = Transpose <perm = [0, 2, 1, 3]> (image)" + CONV, "n, h, 3, w")
    with pytest.raises(DeclinedError, match=r"'image' has its channels in axis 2, expected"):
        require_sides_together(model)


def test_the_node_that_tells_is_named():
    model = layout_model("first = Transpose <perm = [0, 2, 1, 3]> (image)" + CONV, "n, h, 3, w")
    model.graph.node[1].name = "stem"
    with pytest.raises(DeclinedError, match=r"^node 'stem': .* in axis 2") as caught:
        require_sides_together(model)
    assert caught.value.node == "stem"
    for nodes, image in (CHANNELS_FIRST["plain"], CHANNELS_LAST["Rescaling"]):
        model = layout_model(nodes, image)
        assert require_sides_together(model) == image_layout(model)


def test_the_layout_is_found_once_and_forgotten_with_an_edit():
    graph = Graph(layout_model(*CHANNELS_LAST["Transpose"]))
    assert image_layout(graph) is image_layout(graph)
    graph.model.graph.node[0].op_type = "Identity"
    graph.model.graph.node[0].ClearField("attribute")
    graph.changed()
    assert image_layout(graph).is_channels_first


def test_sizes_shapes_and_free_axes_follow_the_layout():
    model = layout_model(*CHANNELS_LAST["Rescaling"])
    assert static_size(model) == trained_size(model) == Size(24, 32)
    shapes = infer_shapes(model, Size(40, 56), 2)
    assert shapes["image"] == (2, 40, 56, 3)
    assert shapes["conv"] == (2, 4, 40, 56)
    free_axes(model)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", "height", "width", 3]


def test_arrays_are_turned_to_where_the_axes_lie_and_back():
    last = image_layout(layout_model(*CHANNELS_LAST["Transpose"]))
    first = image_layout(layout_model(*CHANNELS_FIRST["plain"]))
    images = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    turned = last.arranged(images)
    assert turned.shape == last.shape(2, 3, Size(4, 5)) == (2, 4, 5, 3)
    assert last.size(turned.shape) == first.size(images.shape) == Size(4, 5)
    assert turned[1, 2, 3, 0] == images[1, 0, 2, 3]
    np.testing.assert_array_equal(last.channels_first(turned), images)
    np.testing.assert_array_equal(first.arranged(images), images)


@pytest.mark.parametrize("opset", [9, 13, 17])
@pytest.mark.parametrize("guard", ["least", "largest", "remainders"])
def test_guards_are_on_the_sides_wherever_they_lie(guard, opset):
    model = layout_model("scores = Transpose <perm = [0, 3, 1, 2]> (image)", "n, h, w, 3")
    model.opset_import[0].version = opset
    if guard == "least":
        guard_min_size(model, Size(4, 6))
    elif guard == "largest":
        guard_max_size(model, Size(4, 6))
    else:
        guard_steps(model, SizeRange(Size(2, 3), None, Steps(2, (0,)), Steps(3, (0,))))
    session = onnxruntime.InferenceSession(model.SerializeToString())

    def takes(height, width):
        image = np.ones((2, height, width, 3), np.float32)
        try:
            (got,) = session.run(None, {"image": image})
        except Exception:  # ONNX Runtime has classes of its own
            return False
        assert got.shape == (2, 3, height, width)
        return True

    assert takes(4, 6)
    less, more, other = (3, 6), (4, 7), (6, 9)
    legal = {"least": [more, other], "largest": [less], "remainders": [other]}[guard]
    assert [takes(*size) for size in (less, more, other)] == [
        size in legal for size in (less, more, other)
    ]


ONE_CHANNEL = {
    "to first": ([7, 24, 32, 1], [7, 1, 24, 32], [0, 3, 1, 2]),
    "to last": ([7, 1, 24, 32], [7, 24, 32, 1], [0, 2, 3, 1]),
    "one cell to last": ([7, 5, 1, 1], [7, 1, 1, 5], [0, 2, 3, 1]),
    "one row to first": ([7, 1, 32, 1], [7, 1, 1, 32], [0, 3, 1, 2]),
    "one column to first": ([7, 32, 1, 1], [7, 1, 32, 1], [0, 3, 1, 2]),
    "several channels": ([7, 24, 24, 3], [7, 3, 24, 24], None),
    "sides apart": ([7, 1, 24, 32], [7, 24, 1, 32], None),
    "nothing": ([7, 1, 24, 32], [7, 1, 24, 32], None),
    "flat": ([7, 1, 24, 32], [7, 768], None),
    "unknown side": ([7, None, 32, 1], [7, 1, 24, 32], None),
}


@pytest.mark.parametrize(("before", "after", "perm"), ONE_CHANNEL.values(), ids=ONE_CHANNEL)
def test_a_reshape_stands_for_a_transpose_where_numbers_stay_in_place(before, after, perm):
    assert as_transpose(before, after) == perm
    if perm is not None:
        array = np.arange(np.prod(before)).reshape(before)
        np.testing.assert_array_equal(array.reshape(after), array.transpose(perm))


def test_the_image_itself_in_another_order_is_told_from_a_map():
    model = layout_model(*CHANNELS_LAST["Rescaling"])
    assert [is_turned_image(model, name) for name in ("image", "a", "first", "conv")] == [
        True,
        True,
        False,
        False,
    ]
    model = layout_model(*CHANNELS_FIRST["plain"])
    assert not is_turned_image(model, "image")
    grey = "m = ReduceMean <axes = [1]> (image) scores = Flatten (m)"
    assert not is_turned_image(layout_model(grey, "n, c, h, w"), "m")
