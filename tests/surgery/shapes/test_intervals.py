import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anysize.errors import UnsupportedModelError
from anysize.sizes import MAX_SIDE, Size, SizeRange
from anysize.surgery import (
    IllegalSizeError,
    guard_min_size,
    infer_shapes,
    legal_interval,
    smallest_size,
    trained_size,
)


def _stack(layers, channels=3):
    """A graph of (kind, channels, kernel, stride, pad) layers whose weights are dims only."""
    nodes, tensors, name = [], [], "image"
    for number, (kind, out, kernel, stride, pad) in enumerate(layers):
        output, inputs = f"t{number}", [name]
        if kind == "Conv":
            weight = onnx.TensorProto(name=f"w{number}", data_type=1)
            weight.dims.extend([out, channels, kernel, kernel])
            weight.data_location = onnx.TensorProto.EXTERNAL
            tensors.append(weight)
            inputs.append(weight.name)
            channels = out
        nodes.append(
            onnx.helper.make_node(
                kind, inputs, [output], kernel_shape=[kernel] * 2, strides=[stride] * 2,
                pads=[pad] * 4,
            )
        )  # fmt: skip
        name = output
    image = onnx.helper.make_tensor_value_info("image", 1, ["n", 3, "h", "w"])
    last = onnx.helper.make_tensor_value_info(name, 1, None)
    graph = onnx.helper.make_graph(nodes, "stack", [image], [last], tensors)
    return onnx.helper.make_model(graph), name


def _vgg(counts):
    layers = []
    for channels, count in zip((64, 128, 256, 512, 512), counts, strict=True):
        layers += [("Conv", channels, 3, 1, 1)] * count + [("MaxPool", 0, 2, 2, 0)]
    return _stack(layers)


ALEXNET = [
    ("Conv", 64, 11, 4, 2), ("MaxPool", 0, 3, 2, 0), ("Conv", 192, 5, 1, 2),
    ("MaxPool", 0, 3, 2, 0), ("Conv", 384, 3, 1, 1), ("Conv", 256, 3, 1, 1),
    ("Conv", 256, 3, 1, 1), ("MaxPool", 0, 3, 2, 0),
]  # fmt: skip


def test_vgg_16_takes_224_to_255():
    model, tensor = _vgg((2, 2, 3, 3, 3))
    expected = SizeRange(Size(224, 224), Size(255, 255))
    assert legal_interval(model, tensor, Size(224, 224)) == expected
    assert legal_interval(model, tensor, Size(240, 231)) == expected
    assert smallest_size(model) == Size(32, 32)


def test_alexnet_takes_the_interval_that_pytorch_gives_its_map():
    from torch import nn

    model, tensor = _stack(ALEXNET)
    torch_layers = nn.Sequential(
        *(
            nn.Conv2d(1, 1, kernel, stride, pad) if kind == "Conv" else nn.MaxPool2d(kernel, stride)
            for kind, _, kernel, stride, pad in ALEXNET
        )
    )
    import torch

    def cells(side):
        with torch.no_grad():
            return torch_layers(torch.zeros(1, 1, side, 224)).shape[2]

    found = legal_interval(model, tensor, Size(224, 224))
    low, top = found.minimum.height, found.maximum.height
    assert [cells(side) for side in (low - 1, low, top, top + 1)] == [5, 6, 6, 7]
    assert smallest_size(model) == Size(63, 63)
    assert cells(63) == 1


def test_axes_are_independent_and_one_of_them_may_be_unbounded(kit):
    model = kit.make(
        """conv = Conv <kernel_shape = [3, 3], strides = [4, 2]> (image, w)
           row = ReduceMean <axes = [3], keepdims = 1> (conv) scores = Relu (row)""",
        weights={"w": (2, 3, 3, 3)}, image="n, 3, h, w", outputs="float[n, c, h2, w2] scores",
    )  # fmt: skip
    found = legal_interval(model, "scores", Size(20, 20))
    assert found == SizeRange(Size(19, 3), Size(22, MAX_SIDE))


def test_a_map_that_is_always_one_cell_has_no_maximum(kit):
    model = kit.make(
        "scores = GlobalAveragePool (image)", image="n, 3, h, w", outputs="float[n, 3, 1, 1] scores"
    )
    assert legal_interval(model, "scores", Size(9, 9)) == SizeRange(Size(1, 1))


def test_an_illegal_size_has_no_interval(kit):
    with pytest.raises(IllegalSizeError):
        legal_interval(kit.plain(), "fmap", Size(1, 1))
    with pytest.raises(UnsupportedModelError, match="got shape None"):
        legal_interval(kit.plain(), "nobody", Size(32, 32))


def test_a_graph_that_takes_no_size_says_why(kit):
    model = kit.plain()
    model.graph.initializer[2].dims[1] = 257  # no map has 257 elements
    with pytest.raises(UnsupportedModelError, match=r"no legal image size found up to .*hidden"):
        smallest_size(model)


def test_one_value_cannot_be_normalised_so_the_smallest_image_has_two():
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        net (float[n, 3, h, w] image) => (float[n, 3, a, b] y) {
            y = InstanceNormalization (image, s, s) }""")
    scale = onnx.helper.make_tensor("s", 1, [3], [1.0, 1.0, 1.0])
    model.graph.initializer.append(scale)
    assert smallest_size(model) == Size(1, 2)  # 2×1 would do as well; 1×1 would not
    assert infer_shapes(model, Size(1, 2))["y"] == (1, 3, 1, 2)
    with pytest.raises(IllegalSizeError, match="expected more than one value to normalise"):
        infer_shapes(model, Size(1, 1))


@pytest.mark.parametrize(
    ("mode", "expected"), [("reflect", 4), ("wrap", 3), ("edge", 1), ("constant", 1)]
)
def test_a_padding_repeats_no_more_than_there_is(mode, expected):
    model = onnx.parser.parse_model(f"""<ir_version: 9, opset_import: ["" : 19]>
        net (float[n, 3, h, w] image) => (float[n, 3, a, b] y) {{
            pads = Constant <value_ints = [0, 0, 3, 2, 0, 0, 1, 3]> ()
            y = Pad <mode = "{mode}"> (image, pads) }}""")
    assert smallest_size(model) == Size(expected, expected)
    if mode == "reflect":
        with pytest.raises(IllegalSizeError, match="by 3 along axis 3, expected at most 2"):
            infer_shapes(model, Size(9, 3))


def test_the_guard_sets_the_smallest_size():
    model, _ = _stack(ALEXNET)
    assert smallest_size(guard_min_size(model, Size(100, 71))) == Size(100, 71)


def test_the_trained_size_is_declared_or_recorded(kit):
    model = kit.plain()
    assert trained_size(model) == Size(32, 32)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "s"
    assert trained_size(model) is None
    entry = model.metadata_props.add()
    entry.key, entry.value = "anysize.size", "40x50"
    assert trained_size(model) == Size(40, 50)


LAYERS = st.lists(
    st.tuples(
        st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
        st.just(2),
        st.integers(1, 5),
        st.integers(1, 3),
        st.integers(0, 2),
    ).map(lambda layer: (*layer[:4], min(layer[4], layer[2] // 2))),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(layers=LAYERS, height=st.integers(20, 90), width=st.integers(20, 90))
def test_intervals_end_exactly_where_the_map_changes(layers, height, width):
    model, tensor = _stack(layers)
    size = Size(height, width)
    try:
        shape = infer_shapes(model, size)[tensor]
    except IllegalSizeError:
        return
    found = legal_interval(model, tensor, size)
    assert size in found
    low, top = found.minimum, found.maximum
    assert top is not None

    def shape_at(*sides):
        try:
            return infer_shapes(model, Size(*sides))[tensor]
        except IllegalSizeError:
            return None

    assert shape_at(low.height, low.width) == shape_at(top.height, top.width) == shape
    assert shape_at(top.height + 1, width) != shape
    assert shape_at(height, top.width + 1) != shape
    assert low.height == 1 or shape_at(low.height - 1, width) != shape
    assert low.width == 1 or shape_at(height, low.width - 1) != shape
    smallest = smallest_size(model)
    assert shape_at(smallest.height, smallest.width) is not None
    assert smallest.height == 1 or shape_at(smallest.height - 1, smallest.width) is None
