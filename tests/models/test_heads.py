import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anysize.errors import UsageError
from anysize.models import HEADS, ZOO, HeadOptions, build, construct
from anysize.models.heads.spp import PaperPyramidPool, PyramidPool
from anysize.sizes import Size

# The roi head takes a second input: test_roi_head.py.
SMALL = [(name, head) for name in ("lenet", "digits") for head in ZOO[name].heads if head != "roi"]
MINIMUM = {"lenet": 16, "digits": 20}
ANY_SIZE = [case for case in SMALL if case[1] != "fc"]


def images(name, height, width, *, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, ZOO[name].channels, height, width)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def first(output):
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
@pytest.mark.parametrize("name", ["lenet", "digits"])
def test_fcn_equals_fc_at_the_training_size(name):
    fc, fcn = build(name, head="fc").double(), build(name, head="fcn").double()
    x = images(name, 32, 32)
    dense = fcn(x)
    assert dense.shape == (2, fc.classes, 1, 1)
    torch.testing.assert_close(dense.flatten(1), fc(x), rtol=0, atol=1e-13)


@torch.no_grad()
def test_fcn_cell_equals_fc_on_its_window_of_the_feature_map():
    fc, fcn = build("lenet", head="fc").double(), build("lenet", head="fcn").double()
    features = fcn.forward_features(images("lenet", 45, 52))
    dense = fcn.forward_head(features)
    assert dense.shape[2:] == (features.shape[2] - 4, features.shape[3] - 4)
    for row in range(dense.shape[2]):
        for column in range(dense.shape[3]):
            window = features[:, :, row : row + 5, column : column + 5]
            torch.testing.assert_close(dense[:, :, row, column], fc.forward_head(window))


@torch.no_grad()
def test_digits_map_cell_equals_fc_on_the_crop_of_the_image():
    fc, fcn = build("digits", head="fc").double(), build("digits", head="fcn").double()
    x = images("digits", 44, 57)
    dense = fcn(x)
    assert dense.shape[2:] == (4, 7)
    for row, column in ((0, 0), (3, 6), (2, 1)):
        crop = x[:, :, 4 * row : 4 * row + 32, 4 * column : 4 * column + 32]
        torch.testing.assert_close(dense[:, :, row, column], fc(crop))


@torch.no_grad()
@pytest.mark.parametrize("name", ["lenet", "digits"])
def test_cam_equals_gap_and_is_the_mean_of_its_map(name):
    gap, cam = build(name, head="gap").double(), build(name, head="cam").double()
    x = images(name, 41, 37)
    logits, class_map = cam(x)
    torch.testing.assert_close(logits, gap(x), rtol=0, atol=1e-13)
    torch.testing.assert_close(class_map.mean((2, 3)), logits, rtol=0, atol=1e-13)


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "nin"])
def test_cam_equals_gap_in_networks_that_pool_globally(name):
    gap, cam = build(name, classes=5).double(), build(name, classes=5, head="cam").double()
    x = images(name, 75, 107, batch=1)
    torch.testing.assert_close(cam(x)[0], gap(x), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(("name", "head"), ANY_SIZE, ids="-".join)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (53, 37), (64, 61)], ids=str)
def test_head_takes_odd_sizes(name, head, size):
    module = build(name, head=head)
    output = module(images(name, *size).float())
    outputs = output if isinstance(output, tuple) else (output,)
    assert len(outputs) == len(module.output_names)
    for one, label in zip(outputs, module.output_names, strict=True):
        assert one.shape[:2] == (2, module.classes)
        assert one.ndim == (4 if label == "map" else 2)
        assert bool(torch.isfinite(one).all())


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "head"), [case for case in SMALL if case[1] != "resize"], ids="-".join
)
def test_head_rejects_what_leaves_no_feature_map(name, head):
    module = build(name, head=head)
    below = MINIMUM[name] - 1 if head in {"gap", "cam", "spp", "adaptive"} else 31
    with pytest.raises(RuntimeError):
        module(images(name, below, 64).float())
    if head in {"gap", "cam", "spp", "adaptive"}:
        module(images(name, MINIMUM[name], 64).float())


@torch.no_grad()
def test_resize_takes_a_single_pixel():
    assert build("lenet", head="resize")(torch.ones(1, 1, 1, 1)).shape == (1, 10)


@torch.no_grad()
def test_fc_takes_its_interval_and_nothing_else():
    module = build("lenet", head="fc")
    for side in (32, 33, 35):
        assert module(images("lenet", side, 32).float()).shape == (2, 10)
    for side in (31, 36, 64):
        with pytest.raises(RuntimeError, match="shapes"):
            module(images("lenet", side, 32).float())


@torch.no_grad()
@pytest.mark.parametrize(("name", "head"), SMALL, ids="-".join)
def test_features_then_head_is_the_whole_network(name, head):
    module = build(name, head=head)
    x = images(name, 32, 32).float()
    parts = module.forward_head(module.forward_features(x))
    assert torch.equal(first(parts), first(module(x)))


@torch.no_grad()
@pytest.mark.parametrize("head", ["adaptive", "resize"])
def test_head_is_the_fc_network_at_the_training_size(head):
    x = images("lenet", 32, 32)
    fc = build("lenet", head="fc").double()
    torch.testing.assert_close(build("lenet", head=head).double()(x), fc(x), rtol=0, atol=1e-13)


@torch.no_grad()
def test_adaptive_pools_with_max_where_asked():
    average = build("lenet", head="adaptive").double()
    maximum = build("lenet", head="adaptive", options=HeadOptions(pooling="max")).double()
    x = images("lenet", 48, 48)
    assert not torch.allclose(average(x), maximum(x))
    features = maximum.forward_features(x)
    pooled = torch.nn.functional.adaptive_max_pool2d(features, (5, 5)).flatten(1)
    assert torch.equal(maximum(x), maximum.get_submodule("classifier")(pooled))


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_offered_head_is_built_and_knows_its_map(name):
    for head in ZOO[name].heads:
        module = construct(name, head=head)
        assert (module.name, module.head) == (name, head)
        has_trained_map = head in {"fc", "fcn", "adaptive", "resize", "roi"}
        assert (module.map_size is not None) == has_trained_map
    assert construct("vgg16", head="fc").map_size == Size(7, 7)
    assert construct("alexnet", head="fcn").map_size == Size(6, 6)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_unoffered_head_is_refused_with_those_offered(name):
    for head in set(HEADS) - set(ZOO[name].heads):
        with pytest.raises(UsageError, match=f"offers {ZOO[name].heads[0]}"):
            build(name, head=head)


def test_unknown_head_is_refused():
    with pytest.raises(UsageError, match="head 'fully': unknown; alexnet offers fc, fcn"):
        build("alexnet", head="fully")


def test_size_below_the_smallest_is_refused_with_the_smallest():
    with pytest.raises(UsageError, match=r"vgg16 at 31x224: .* smallest size is 32x32"):
        build("vgg16", size=Size(31, 224))
    assert construct("vgg16", size=Size(32, 32)).map_size == Size(1, 1)


def test_training_size_sets_the_trained_map():
    module = construct("vgg16", head="fcn", size=Size(256, 320))
    assert module.map_size == Size(8, 10)
    assert module.state_dict()["classifier.0.weight"].shape == (4096, 512, 8, 10)


def naive_bins(plane, n, edges):
    height, width = plane.shape
    return [
        max(
            plane[y, x].item()
            for y in range(*edges(height, n, i))
            for x in range(*edges(width, n, j))
        )
        for i in range(n)
        for j in range(n)
    ]


def adaptive_edges(a, n, i):
    return i * a // n, -(-(i + 1) * a // n)


def paper_edges(a, n, i):
    return i * (a // n), i * (a // n) + math.ceil(a / n)


def naive_pyramid(feature_map, levels, edges):
    return [
        [v for n in levels for channel in image for v in naive_bins(channel, n, edges)]
        for image in feature_map
    ]


sides = st.integers(1, 15)
some_levels = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)


@settings(max_examples=40, deadline=None)
@given(height=sides, width=sides, levels=some_levels)
def test_pyramid_equals_a_naive_loop_over_adaptive_bins(height, width, levels):
    feature_map = torch.rand(2, 2, height, width, dtype=torch.float64)
    expected = naive_pyramid(feature_map, levels, adaptive_edges)
    assert PyramidPool(levels)(feature_map).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(height=sides, width=sides, levels=some_levels)
def test_paper_pyramid_equals_a_naive_loop_or_refuses(height, width, levels):
    def gives_n(a, n):
        return a // n > 0 and (a - math.ceil(a / n)) // (a // n) + 1 == n

    feature_map = torch.rand(1, 2, height, width, dtype=torch.float64)
    pool = PaperPyramidPool(levels)
    if all(gives_n(height, n) and gives_n(width, n) for n in levels):
        expected = naive_pyramid(feature_map, levels, paper_edges)
        assert pool(feature_map).tolist() == expected
    else:
        with pytest.raises(UsageError, match="use bins='adaptive'"):
            pool(feature_map)


def test_paper_bins_refuse_seven_cells_in_four_bins():
    with pytest.raises(UsageError, match=r"level 4 on a 7x7 map: .* give 6x6 bins, expected 4x4"):
        PaperPyramidPool((4, 2, 1))(torch.rand(1, 1, 7, 7))


def test_paper_bins_accept_the_papers_own_sizes():
    pool = PaperPyramidPool((4, 2, 1))
    assert pool(torch.rand(1, 256, 13, 13)).shape == (1, 5376)
    assert pool(torch.rand(1, 256, 10, 10)).shape == (1, 5376)


def test_both_bin_definitions_agree_on_multiples():
    feature_map = torch.rand(2, 3, 8, 12)
    assert torch.equal(PyramidPool((4, 2))(feature_map), PaperPyramidPool((4, 2))(feature_map))


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("spp", HeadOptions(levels=()), "levels"),
        ("spp", HeadOptions(levels=(4, 0)), "levels"),
        ("spp", HeadOptions(bins="fixed"), "bins 'fixed'"),
        ("adaptive", HeadOptions(pooling="sum"), "pooling 'sum'"),
    ],
    ids=["no-levels", "zero-level", "bins", "pooling"],
)
def test_impossible_options_are_refused(head, options, message):
    with pytest.raises(UsageError, match=message):
        construct("lenet", head=head, options=options)


def test_spp_feeds_the_networks_own_classifier():
    shape = construct("vgg16", head="spp").state_dict()["classifier.0.weight"].shape
    assert shape == (4096, 512 * 21)
    assert construct("resnet18", head="spp").state_dict()["fc.weight"].shape == (1000, 512 * 21)


def test_modules_can_be_copied_and_printed():
    module = copy.deepcopy(build("lenet", head="spp"))
    assert "levels=(4, 2, 1)" in str(module)
    assert "size=(5, 5)" in str(build("lenet", head="adaptive"))
