"""Shapes that a trace wrote down are computed from the image, or refused."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from anysize.errors import ExportError
from anysize.exporters import ExportSpec, export_module
from anysize.sizes import Size

ort.set_default_logger_severity(4)


class Net(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.inner = inner

    def forward(self, x):
        return self.inner(self.conv(x))


def shuffle(x):
    batch, channels, height, width = x.size()
    x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
    return x.view(batch, channels, height, width)


def shuffle_by_flatten(x):
    batch, channels, height, width = x.shape
    x = x.reshape(batch, 4, channels // 4, height * width).transpose(1, 2)
    return x.reshape(batch, -1, height, width)


def restored(x):
    return F.interpolate(F.max_pool2d(x, 2), size=x.shape[-2:], mode="bilinear")


def restored_nearest(x):
    return x + F.interpolate(F.max_pool2d(x, 2), size=x.shape[-2:])


def attend(x, side):
    """Average within windows, the map filled up to a multiple of them."""
    n, c, h, w = x.shape
    x = F.pad(x, (0, -w % side, 0, -h % side))
    rows, columns = x.shape[2] // side, x.shape[3] // side
    x = x.view(n, c, rows, side, columns, side)
    x = (x - x.mean((3, 5), keepdim=True)).reshape(n, c, rows * side, columns * side)
    return x[:, :, :h, :w]


def attend_twice(x):
    """At most sizes as many windows in the smaller map as in the larger one, but not at all."""
    return attend(attend(x, 7)[:, :, ::2, ::2], 4)


def cropped(x):
    """Leave out what is more than a multiple of 3, which of the image is more than one of 6."""
    return x[:, :, : x.shape[2] // 3 * 3, : x.shape[3] // 3 * 3]


def one_side_restored(x):
    return F.interpolate(x, size=(x.shape[2], 9), mode="bilinear", align_corners=False)


def gate_of_the_normalised(x):
    normalised = NORMALISED(x)
    return normalised * normalised.mean((2, 3), keepdim=True).expand_as(normalised)


NORMALISED = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)).eval()
FREED = {
    "expanded gate behind a folded normalisation": gate_of_the_normalised,
    "channel shuffle": shuffle,
    "channel shuffle over flattened maps": shuffle_by_flatten,
    "group norm": nn.GroupNorm(2, 8),
    "sequence": lambda x: x.flatten(2).transpose(1, 2),
    "attention": lambda x: x.flatten(2).softmax(-1).view(x.shape),
    "expanded gate": lambda x: x * x.mean((2, 3), keepdim=True).expand_as(x),
    "global pooling by its window": lambda x: F.avg_pool2d(x, x.size()[2:]),
    "global maximum by its window": lambda x: F.max_pool2d(x, x.shape[2:]).flatten(1),
    "mean over flattened maps": lambda x: x.view(x.size(0), x.size(1), -1).mean(2),
    "rows averaged": nn.AdaptiveAvgPool2d((None, 1)),
    "columns in bins": nn.AdaptiveAvgPool2d((4, None)),
    "rows in bins of maxima": nn.AdaptiveMaxPool2d((None, 3)),
    "resized to another map": restored,
    "resized to another map, nearest": restored_nearest,
    "resized to another map one way": one_side_restored,
    "resized to a third of the rows": (
        lambda x: F.interpolate(x, size=(x.shape[2] // 3, 5), mode="bilinear")
    ),
    "windows of two maps": attend_twice,
    "cropped to a multiple": cropped,
    "the first third": lambda x: x[:, :, : x.shape[2] // 3 + 1, : -(-x.shape[3] // 3)],
    "even local response": nn.LocalResponseNorm(4),
    "pooling rounded up": nn.MaxPool2d(3, 2, ceil_mode=True),
}
REFUSED = {
    "half a map": (lambda x: F.adaptive_avg_pool2d(x, x.shape[2] // 2), "output_size"),
    "a window of half a map": (lambda x: F.max_pool2d(x, x.shape[2] // 2), "MaxPool has"),
}


def exported(inner):
    torch.manual_seed(0)
    module = Net(inner).eval()
    spec = ExportSpec(name="net", head=None, channels=3, classes=None, size=Size(24, 24))
    return module, export_module(module, spec).loaded()


@pytest.mark.parametrize("inner", FREED.values(), ids=FREED)
def test_a_baked_shape_is_freed(inner):
    module, model = exported(inner)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, height, width in ((1, 24, 24), (2, 31, 50), (5, 66, 41)):
        shape = (batch, 3, height, width)
        x = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
        (got,) = session.run(None, {"input": x})
        with torch.inference_mode():
            expected = module(torch.from_numpy(x)).numpy()
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("inner", "said"), REFUSED.values(), ids=REFUSED)
def test_a_baked_shape_that_is_no_tensor_s_is_refused(inner, said):
    with pytest.raises(ExportError, match=said) as error:
        exported(inner)
    assert "test_free_shapes.py" in str(error.value)


def test_a_channel_shuffle_is_written_with_the_axes_of_its_input():
    _, model = exported(shuffle)
    found = [node.op_type for node in model.graph.node]
    assert found.count("Reshape") == 2
    assert set(found) == {"Conv", "Reshape", "Shape", "Concat", "Transpose"}


def test_pooling_rounded_up_becomes_padding():
    _, model = exported(nn.MaxPool2d(3, 2, ceil_mode=True))
    (pool,) = [node for node in model.graph.node if node.op_type == "MaxPool"]
    attributes = {a.name: list(a.ints) or a.i for a in pool.attribute}
    assert attributes["pads"] == [0, 0, 1, 1]
    assert "ceil_mode" not in attributes


def test_pooling_rounded_up_whose_last_window_may_lie_in_the_padding_stays():
    _, model = exported(nn.MaxPool2d(2, 2, 1, ceil_mode=True))
    (pool,) = [node for node in model.graph.node if node.op_type == "MaxPool"]
    assert any(a.name == "ceil_mode" and a.i == 1 for a in pool.attribute)
