"""The operators equal naive loops over cells, ONNX Runtime's own, and survive torch.export."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn

from anysize.errors import MapSizeError
from anysize.models.operators import paper_bins, paper_max_pool, roi_align, roi_max_pool

EPS32 = float(np.finfo(np.float32).eps)
SCALE = 0.25
COORDINATES = st.floats(-20, 90, width=32).map(lambda x: round(x * 8) / 8)


@st.composite
def cases(draw):
    """A map of 1 to 14 cells each way, and regions inside it, across its border and beyond."""
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    count = draw(st.integers(0, 4))
    rois = [[draw(st.integers(0, 1)), *(draw(COORDINATES) for _ in range(4))] for _ in range(count)]
    bins = draw(st.sampled_from([(7, 7), (1, 1), (2, 3), (5, 4)]))
    features = np.random.default_rng(height * 99 + width).standard_normal((2, 2, height, width))
    return torch.from_numpy(features), torch.tensor(rois, dtype=torch.float64).reshape(-1, 5), bins


def naive_max(features, rois, bins, scale):
    """MaxRoiPool as Fast R-CNN has it, one cell after the other."""
    _, channels, height, width = features.shape
    out = np.zeros((len(rois), channels, *bins))
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (int(math.copysign(math.floor(abs(c * scale) + 0.5), c)) for c in corners)
        tall, wide = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for i in range(bins[0]):
            for j in range(bins[1]):
                top, left = y1 + i * tall // bins[0], x1 + j * wide // bins[1]
                bottom = y1 - (-(i + 1) * tall // bins[0])
                right = x1 - (-(j + 1) * wide // bins[1])
                top, bottom = max(top, 0), min(bottom, height)
                left, right = max(left, 0), min(right, width)
                if top < bottom and left < right:
                    window = features[int(image), :, top:bottom, left:right]
                    out[k, :, i, j] = window.amax((1, 2))
    return out


def naive_sample(image, y, x):
    """One bilinear sample of (channels, height, width)."""
    _, height, width = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(len(image))
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = image[:, top, left] * (1 - dx) + image[:, top, right] * dx
    lower = image[:, bottom, left] * (1 - dx) + image[:, bottom, right] * dx
    return (upper * (1 - dy) + lower * dy).numpy()


def naive_align(features, rois, bins, scale, ratio, aligned):
    """RoIAlign, one sample after the other."""
    out = np.zeros((len(rois), features.shape[1], *bins))
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * scale - (0.5 if aligned else 0.0) for c in corners)
        tall, wide = y2 - y1, x2 - x1
        if not aligned:
            tall, wide = max(tall, 1.0), max(wide, 1.0)
        tall, wide = tall / bins[0], wide / bins[1]
        down, across = (ratio, ratio) if ratio else (math.ceil(tall), math.ceil(wide))
        for i in range(bins[0]):
            for j in range(bins[1]):
                for a in range(down):
                    for b in range(across):
                        y = y1 + i * tall + (a + 0.5) * tall / down
                        x = x1 + j * wide + (b + 0.5) * wide / across
                        out[k, :, i, j] += naive_sample(features[int(image)], y, x)
        out[k] /= max(down * across, 1)
    return out


def runtime(operator, features, rois, **attributes):
    """Run one ONNX node on ONNX Runtime, float32."""
    inputs = {"x": features.float().numpy(), "rois": rois.float().numpy()}
    if operator == "RoiAlign":
        inputs["rois"] = np.ascontiguousarray(inputs["rois"][:, 1:])
        inputs["images"] = rois[:, 0].long().numpy()
    graph = helper.make_graph(
        [helper.make_node(operator, list(inputs), ["y"], **attributes)],
        "one",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for name, v in inputs.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def in_order(rois):
    """The same regions with x1 ≤ x2 and y1 ≤ y2."""
    x, y = rois[:, 1::2].sort(1)[0], rois[:, 2::2].sort(1)[0]
    return torch.stack([rois[:, 0], x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_roi_max_pooling_equals_a_loop_over_cells(case):
    features, rois, bins = case
    got = roi_max_pool(features, rois, bins, spatial_scale=SCALE)
    np.testing.assert_array_equal(got.numpy(), naive_max(features, rois, bins, SCALE))


@settings(deadline=None, max_examples=60)
@given(case=cases(), ratio=st.sampled_from([0, 1, 2, 3]), aligned=st.booleans())
def test_roi_align_equals_a_loop_over_samples(case, ratio, aligned):
    features, rois, bins = case
    options = {"sampling_ratio": ratio, "aligned": aligned}
    got = roi_align(features, rois, bins, spatial_scale=SCALE, **options)
    expected = naive_align(features, rois, bins, SCALE, ratio, aligned)
    # A sample within rounding of the border may fall on either side of it, where RoIAlign jumps.
    step = 1e-9 * torch.tensor([0.0, 1, 1, 1, 1], dtype=torch.float64)
    moved = [
        roi_align(features, r, bins, spatial_scale=SCALE, **options)
        for r in (rois + step, rois - step)
    ]
    steady = np.logical_and(*(np.abs((m - got).numpy()) < 1e-6 for m in moved))
    assert np.abs(got.numpy() - expected)[steady].max(initial=0) <= 1e-12
    assert got.shape == expected.shape


@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_roi_max_pooling_equals_onnx_runtime(case):
    features, rois, bins = case
    if not len(rois):
        return
    got = roi_max_pool(features.float(), rois.float(), bins, spatial_scale=SCALE).numpy()
    expected = runtime("MaxRoiPool", features, rois, pooled_shape=bins, spatial_scale=SCALE)
    np.testing.assert_array_equal(got, expected)


@settings(deadline=None, max_examples=40)
@given(case=cases(), ratio=st.sampled_from([0, 1, 2]), aligned=st.booleans())
def test_roi_align_equals_onnx_runtime(case, ratio, aligned):
    features, rois, bins = case
    rois = in_order(rois) + 0.013 * torch.tensor([0, 1, 2, 3, 4])  # off the border's jump
    got = roi_align(
        features.float(),
        rois.float(),
        bins,
        spatial_scale=SCALE,
        sampling_ratio=ratio,
        aligned=aligned,
    ).numpy()
    expected = runtime(
        "RoiAlign",
        features,
        rois,
        output_height=bins[0],
        output_width=bins[1],
        spatial_scale=SCALE,
        sampling_ratio=ratio,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )
    assert got.shape == expected.shape
    # Sampling points up to 25 cells away are rounded to 25·eps, on slopes up to 2·max|x|.
    bound = 200 * EPS32 * float(features.abs().max())
    assert np.abs(got - expected).max(initial=0) <= bound


def test_a_shifted_region_is_seen_by_the_comparison():
    features = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0.0, 4, 4, 30, 30]])
    moved = rois + torch.tensor([0.0, 4, 0, 4, 0])
    for pool in (roi_max_pool, roi_align):
        here, there = (pool(features, r, (7, 7), spatial_scale=SCALE) for r in (rois, moved))
        assert (here - there).abs().max() > 0.1


def test_onnx_runtime_pools_one_cell_too_many_where_float32_rounds_up():
    """A known deviation: ⌈7 · (57/7)⌉ is 57, and 58 in float32."""
    features = torch.zeros(1, 1, 60, 60)
    features[:, :, 57] = 1.0  # the row below a region of rows 0 to 56
    rois = torch.tensor([[0.0, 0, 0, 56, 56]])
    ours = roi_max_pool(features, rois, (7, 7), spatial_scale=1.0)
    theirs = runtime("MaxRoiPool", features, rois, pooled_shape=(7, 7), spatial_scale=1.0)
    assert float(ours.max()) == 0.0
    assert theirs.max() == 1.0


def test_onnx_runtime_fails_on_a_region_turned_inside_out():
    """A known deviation, with sampling_ratio 0 only: the number of samples is negative there."""
    features, rois = torch.ones(1, 1, 4, 4), torch.tensor([[0.0, 0, 9, 3, 0]])
    ours = roi_align(features, rois, (1, 1), spatial_scale=SCALE, sampling_ratio=0)
    assert float(ours.abs().max()) == 0.0
    with pytest.raises(Exception, match="Integer overflow"):
        runtime("RoiAlign", features, rois, output_height=1, output_width=1, spatial_scale=SCALE)


@pytest.mark.parametrize("pool", [roi_max_pool, roi_align])
def test_no_region_gives_an_empty_answer(pool):
    got = pool(torch.ones(2, 3, 5, 5), torch.empty(0, 5), (7, 7), spatial_scale=SCALE)
    assert got.shape == (0, 3, 7, 7)


@pytest.mark.parametrize("pool", [roi_max_pool, roi_align])
@pytest.mark.parametrize(
    ("features", "rois", "said"),
    [
        ((2, 3, 5), [[0, 0, 0, 4, 4]], "features: got shape"),
        ((2, 3, 5, 5), [[0, 0, 4, 4]], r"rois: got shape \(1, 4\), expected \(count, 5\)"),
        ((2, 3, 5, 5), [[2, 0, 0, 4, 4]], "row 0 has batch index 2.0, expected .* 0 to 1"),
        ((2, 3, 5, 5), [[0, 0, 0, 4, 4], [0.5, 0, 0, 4, 4]], "row 1 has batch index 0.5"),
    ],
)
def test_a_wrong_region_is_refused(pool, features, rois, said):
    with pytest.raises(ValueError, match=said):
        pool(torch.ones(features), torch.tensor(rois, dtype=torch.float32), (7, 7), spatial_scale=1)


class Pools(nn.Module):
    def forward(self, x, rois):
        return (
            roi_align(x, rois, (7, 7), spatial_scale=0.5),
            roi_max_pool(x, rois, (7, 7), spatial_scale=0.5),
            paper_max_pool(x, 2),
        )


# torch.export's own use of its deprecated pytree classes
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_the_operators_stay_whole_in_torch_export():
    arguments = (torch.ones(1, 2, 8, 8), torch.tensor([[0.0, 1, 1, 9, 9]]))
    program = torch.export.export(Pools(), arguments).run_decompositions()
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    for name in ("roi_align", "roi_max_pool", "paper_max_pool"):
        assert f"anysize.{name}.default" in called


@pytest.mark.parametrize("name", ["roi_align", "roi_max_pool", "paper_max_pool"])
def test_an_operator_is_registered_as_pytorch_wants_it(name):
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0.0, 0.3, 1.1, 9.7, 9.9], [1, 3, 3, 23, 5]], dtype=torch.float64)
    options = {
        "roi_align": (rois, [3, 2], 0.25, 2, True),
        "roi_max_pool": (rois, [3, 2], 0.25),
        "paper_max_pool": (2,),
    }[name]
    operator = getattr(torch.ops.anysize, name).default
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(operator, (x, *options), test_utils=tests)
    assert torch.autograd.gradcheck(lambda features: operator(features, *options), x)


@pytest.mark.gpu
def test_the_operators_give_the_same_on_cuda():
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU")
    x = torch.randn(2, 3, 20, 17, dtype=torch.float64)
    rois = torch.tensor([[0, 0.3, 1.1, 39, 30], [1, 3, 3, 60, 70]], dtype=torch.float64)
    for pool in (roi_max_pool, roi_align):
        here = pool(x, rois, (7, 7), spatial_scale=SCALE)
        there = pool(x.cuda(), rois.cuda(), (7, 7), spatial_scale=SCALE).cpu()
        torch.testing.assert_close(there, here, rtol=0, atol=1e-12)


@given(side=st.integers(1, 300), n=st.integers(1, 12))
def test_the_papers_bins_fit_where_the_remainder_is_no_more_than_the_quotient(side, n):
    assert (paper_bins(side, n) == n) == (side >= n and side % n <= side // n)


@pytest.mark.parametrize(("side", "n", "bins"), [(13, 4, 4), (10, 4, 4), (7, 4, 6), (3, 4, 0)])
def test_the_papers_bins_are_those_of_its_examples(side, n, bins):
    assert paper_bins(side, n) == bins


def test_paper_pooling_is_max_pooling_of_that_window_or_refused():
    x = torch.randn(2, 3, 13, 10, generator=torch.Generator().manual_seed(1))
    expected = F.max_pool2d(x, (4, 3), (3, 2))
    torch.testing.assert_close(paper_max_pool(x, 4), expected, rtol=0, atol=0)
    with pytest.raises(MapSizeError, match="give 6x4 bins, expected 4x4"):
        paper_max_pool(x[:, :, :7], 4)
