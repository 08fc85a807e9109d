"""The roi head: the FC layers on regions, with an fc checkpoint."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anysize.errors import UsageError
from anysize.models import ZOO, HeadOptions, build, construct
from anysize.sizes import Size

WITH_REGIONS = [name for name in ZOO if "roi" in ZOO[name].heads]


def regions(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def images(name, height, width):
    shape = (2, ZOO[name].channels, height, width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_networks_with_fc_layers_offer_it_and_no_others():
    assert [name for name in ZOO if "fc" in ZOO[name].heads] == WITH_REGIONS


@pytest.mark.parametrize("name", WITH_REGIONS)
def test_regions_are_pooled_to_the_trained_map_at_the_stride_of_the_trunk(name):
    module = construct(name, head="roi")
    stride = {"digits": 4, "lenet": 4}.get(name, 32)
    assert module.pool.stride == stride
    assert Size(*module.pool.size) == module.map_size
    assert module.input_names == ("input", "rois")
    keys = construct(name, head="fc").state_dict()
    assert {k: v.shape for k, v in module.state_dict().items()} == {
        k: v.shape for k, v in keys.items()
    }


@torch.no_grad()
def test_a_region_of_the_whole_map_is_the_fc_network():
    """Max pooling of n×n cells into n×n bins is the map itself."""
    options = HeadOptions(roi="max")
    module = build("lenet", head="roi", options=options).double()
    fc = build("lenet", head="fc").double()
    x = images("lenet", 32, 32)
    # Cells 0 to 4, both inclusive: 0 to 16 pixels at stride 4.
    rois = regions([1, 0, 0, 16, 16], [0, 0, 0, 16, 16])
    torch.testing.assert_close(module(x, rois), fc(x).flip(0), rtol=0, atol=1e-13)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["align", "max"])
def test_regions_are_answered_in_their_order(kind):
    module = build("lenet", head="roi", options=HeadOptions(roi=kind)).double()
    x = images("lenet", 61, 45)
    rois = regions([0, 1, 2, 30, 40], [1, 5, 5, 44, 60], [0, 20, 20, 21, 21])
    whole = module(x, rois)
    assert whole.shape == (3, 10)
    for row, roi in enumerate(rois):
        torch.testing.assert_close(module(x, roi[None])[0], whole[row], rtol=0, atol=1e-13)
    features = module.forward_features(x)
    torch.testing.assert_close(module.forward_head(features, rois), whole, rtol=0, atol=1e-13)


@torch.no_grad()
def test_digits_loads_its_fc_checkpoint():
    fc, roi = build("digits", head="fc"), build("digits", head="roi")
    assert torch.equal(
        fc.get_submodule("classifier")[0].weight, roi.get_submodule("classifier")[0].weight
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (HeadOptions(roi="mean"), "roi 'mean': expected 'align' or 'max'"),
        (HeadOptions(sampling_ratio=-1), "sampling_ratio -1"),
    ],
)
def test_impossible_choices_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        construct("lenet", head="roi", options=options)


def test_the_papers_bins_are_refused_where_they_do_not_fit_the_trained_map():
    with pytest.raises(UsageError, match="level 4 does not fit the 7x7 map of 224x224 images"):
        construct("vgg16", head="spp", options=HeadOptions(bins="paper"))
    construct("vgg16", head="spp", size=Size(256, 256), options=HeadOptions(bins="paper"))


@given(
    levels=st.lists(st.integers(1, 9), min_size=1).map(tuple),
    bins=st.sampled_from(["adaptive", "paper"]),
    roi=st.sampled_from(["align", "max"]),
    sampling_ratio=st.integers(0, 4),
)
def test_options_survive_being_written(levels, bins, roi, sampling_ratio):
    options = HeadOptions(levels=levels, bins=bins, roi=roi, sampling_ratio=sampling_ratio)
    assert HeadOptions.from_json(options.to_json()) == options


def test_default_options_are_not_written():
    assert HeadOptions().to_json() is None
    assert HeadOptions.from_json(None) == HeadOptions()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"level": 3}', '{"levels": 3}', '{"sampling_ratio": "2"}']
)
def test_options_that_cannot_be_read_are_refused(text):
    with pytest.raises(UsageError, match="head options"):
        HeadOptions.from_json(text)
