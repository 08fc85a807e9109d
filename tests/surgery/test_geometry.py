import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anysize.sizes import Size
from anysize.surgery import MapGeometry, guard_min_size, map_geometry, rewrite

IMAGE = 64


def _geometry(kit, body, tensor="scores", weights=None, **options):
    options.setdefault("outputs", "float[n, c, h2, w2] scores")
    model = kit.make(body, weights=weights, image="n, 3, h, w", **options)
    return map_geometry(model, tensor)


def test_the_centre_of_a_window_over_pixels_0_to_31_is_16(kit):
    found = _geometry(
        kit, "scores = AveragePool <kernel_shape = [32, 8], strides = [32, 4]> (image)"
    )
    assert found == MapGeometry(stride=(32, 4), offset=(16.0, 4.0), receptive_field=(32, 8))


def test_the_image_itself_is_a_map_of_pixels(kit):
    assert _geometry(kit, "scores = Relu (image)") == MapGeometry((1, 1), (0.5, 0.5), (1, 1))


def test_branches_join_in_the_union_of_what_they_see(kit):
    found = _geometry(
        kit,
        """wide = MaxPool <kernel_shape = [7, 3], strides = [2, 2], pads = [3, 1, 3, 1]> (image)
           thin = Conv <kernel_shape = [1, 5], strides = [2, 2], pads = [0, 2, 0, 2]> (image, w)
           both = Concat <axis = 1> (wide, thin) scores = Relu (both)""",
        weights={"w": (4, 3, 1, 5)},
    )
    assert found == MapGeometry(stride=(2, 2), offset=(0.5, 0.5), receptive_field=(7, 5))


@pytest.mark.parametrize(
    "body",
    [
        """a = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (image)
           b = MaxPool <kernel_shape = [2, 2], strides = [2, 1]> (image)
           one = GlobalMaxPool (b) scores = Add (a, one)""",
        "g = GlobalAveragePool (image) scores = Mul (image, g)",
        "scores = Transpose <perm = [0, 1, 3, 2]> (image)",
        "scores = Softmax <axis = -1> (image)",
        """scores = MaxPool <kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">
               (image)""",
    ],
    ids=["global-branch", "gate", "transpose", "softmax-over-width", "same-with-stride"],
)
def test_what_has_no_geometry_gives_none(kit, body):
    assert _geometry(kit, body) is None


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("operator", ["Conv", "AveragePool"])
def test_padding_of_an_even_window_lies_where_the_runtime_puts_it(kit, operator, auto_pad):
    """An even window cannot be padded alike on both sides: which has the pixel more is the name."""
    inputs = "image, w" if operator == "Conv" else "image"
    model = kit.make(
        f'scores = {operator} <kernel_shape = [4, 2], auto_pad = "{auto_pad}"> ({inputs})',
        weights={"w": (1, 3, 4, 2)} if operator == "Conv" else None,
        image="n, 3, h, w",
        outputs="float[n, c, h2, w2] scores",
    )
    pixel, image = (10, 12), np.zeros((1, 3, 20, 24), np.float32)
    image[..., pixel[0], pixel[1]] = 1
    seeing = np.nonzero(kit.run(model, image)[0][0, 0])
    first = [place - int(cells.max()) for place, cells in zip(pixel, seeing, strict=True)]
    past = [place - int(cells.min()) + 1 for place, cells in zip(pixel, seeing, strict=True)]
    found = map_geometry(model, "scores")
    assert found.offset == tuple((a + b) / 2 for a, b in zip(first, past, strict=True))
    assert found.receptive_field == (4, 2)


def test_padding_by_its_own_node_moves_the_offset(kit):
    found = _geometry(
        kit, "p = Pad (image, pads) scores = MaxPool <kernel_shape = [4, 4], strides = [4, 4]> (p)",
        constants={"pads": [0, 0, 1, 3, 0, 0, 0, 0]},
    )  # fmt: skip
    assert found == MapGeometry(stride=(4, 4), offset=(1.0, -1.0), receptive_field=(4, 4))


def test_a_guard_changes_nothing(kit):
    model = rewrite(kit.plain()).model
    before = map_geometry(model, "scores")
    assert before is not None
    assert map_geometry(guard_min_size(model, Size(31, 31)), "scores") == before


LAYERS = st.lists(
    st.tuples(
        st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(1, 2),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@example(layers=[("Conv", 1, 3, 1, 0)] * 4)
@example(layers=[("Conv", 4, 3, 2, 0)] * 4)
@given(layers=LAYERS)
def test_the_receptive_field_is_what_a_gradient_reaches(layers):
    import torch
    from torch import nn

    modules, nodes, tensors, name = [], [], [], "image"
    for number, (kind, kernel, stride, dilation, pad) in enumerate(layers):
        pad = min(pad, kernel // 2)
        dilation = dilation if kind == "Conv" else 1
        inputs, output = [name], f"t{number}"
        if kind == "Conv":
            weight = np.ones((1, 1, kernel, kernel), np.float32)
            tensors.append(onnx.numpy_helper.from_array(weight, f"w{number}"))
            inputs.append(f"w{number}")
            modules.append(nn.Conv2d(1, 1, kernel, stride, pad, dilation, bias=False))
            nn.init.ones_(modules[-1].weight)
        else:
            # an average sees every pixel of the window that a maximum may pick from
            modules.append(nn.AvgPool2d(kernel, stride, pad))
        nodes.append(
            onnx.helper.make_node(
                kind, inputs, [output], kernel_shape=[kernel] * 2, strides=[stride] * 2,
                pads=[pad] * 4, **({"dilations": [dilation] * 2} if kind == "Conv" else {}),
            )
        )  # fmt: skip
        name = output
    image = onnx.helper.make_tensor_value_info("image", 1, ["n", 1, "h", "w"])
    last = onnx.helper.make_tensor_value_info(name, 1, None)
    graph = onnx.helper.make_graph(nodes, "stack", [image], [last], tensors)
    found = map_geometry(onnx.helper.make_model(graph), name)
    assert found is not None
    # Four strides of 3: cells 81 pixels apart, which see up to 241; some lie far from the border.
    pixels = torch.ones(1, 1, 1000, 1000, requires_grad=True)
    dense = nn.Sequential(*modules)(pixels)
    row = dense.shape[2] // 2  # far from the border, where padding would hide pixels
    (gradient,) = torch.autograd.grad(dense[0, 0, row, row], pixels)
    reached = torch.nonzero(gradient[0, 0].sum(1)).ravel()
    first, past = int(reached[0]), int(reached[-1]) + 1
    assert found.receptive_field == (past - first, past - first)
    centre = found.offset[0] + row * found.stride[0]
    assert centre == (first + past) / 2
    (gradient,) = torch.autograd.grad(nn.Sequential(*modules)(pixels)[0, 0, row + 1, row], pixels)
    assert int(torch.nonzero(gradient[0, 0].sum(1)).ravel()[0]) - first == found.stride[0]


def test_branches_of_unequal_stride_have_no_common_geometry(kit):
    model = kit.make(
        """a = MaxPool <kernel_shape = [1, 1], strides = [2, 1]> (image)
           b = MaxPool <kernel_shape = [1, 1], strides = [1, 2]> (image)
           scores = Add (a, b)""",
        image="n, 3, 1, 1",
        outputs="float[n, c, h2, w2] scores",
    )
    assert map_geometry(model, "scores") is None
