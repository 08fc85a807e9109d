import pytest
import torch
from torch import nn

from anysize.models import ZOO, build
from anysize.models.seeded_weights import fill_seeded

SMALL = [("lenet", head) for head in ZOO["lenet"].heads] + [
    ("resnet18", "gap"),
    ("resnet18", "spp"),
    ("nin", "gap"),
]


def variation(module):
    """How far apart the outputs of two noise images are, relative to the largest output."""
    generator = torch.Generator().manual_seed(1)
    size = (1, module.channels, module.training_size.height, module.training_size.width)
    with torch.no_grad():
        side = module.training_size.height
        regions = (torch.tensor([[0.0, 0, 0, side, side]]),) * (len(module.input_names) - 1)
        outputs = [module(torch.randn(size, generator=generator), *regions) for _ in range(2)]
    first, second = (one[0] if isinstance(one, tuple) else one for one in outputs)
    return float((first - second).abs().max() / first.abs().max())


@pytest.mark.parametrize(("name", "head"), SMALL, ids="-".join)
def test_seeded_outputs_vary_with_the_image(name, head):
    module = build(name, head=head)
    assert variation(module) > 0.01


def test_variation_shows_a_network_that_ignores_its_image():
    module = build("lenet")
    with torch.no_grad():
        module.get_submodule("features.0").weight.zero_()
    assert variation(module) < 1e-6


@pytest.mark.parametrize("name", ["lenet", "resnet18"])
def test_equal_seeds_give_equal_weights_and_others_do_not(name):
    one, same, other = (build(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    differing = [key for key in one if not torch.equal(one[key], other[key])]
    assert len(differing) == len([key for key in one if not key.endswith("num_batches_tracked")])


def test_heads_with_the_same_bytes_start_equal():
    fc = build("lenet", head="fc", seed=5).state_dict()
    for head in ("fcn", "adaptive", "resize"):
        twin = build("lenet", head=head, seed=5).state_dict()
        assert list(twin) == list(fc)
        assert all(torch.equal(twin[key].flatten(), fc[key].flatten()) for key in fc)
    spp = build("lenet", head="spp", seed=5).state_dict()
    assert torch.equal(spp["features.3.weight"], fc["features.3.weight"])


def test_building_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    build("lenet", head="spp", seed=7)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_bias_is_zero_and_no_running_statistic_is_trivial():
    for key, tensor in build("resnet18").state_dict().items():
        assert bool((tensor != 0).any()), key
        if key.endswith(("running_mean", "running_var")):
            assert float(tensor.std()) > 0.05, key


def test_classifier_is_float32_in_eval_mode_on_the_cpu():
    module = build("resnet18")
    assert not any(child.training for child in module.modules())
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert {p.device.type for p in module.parameters()} == {"cpu"}
    assert all(p.requires_grad for p in module.parameters())


def test_a_layer_without_a_rule_is_refused():
    with pytest.raises(TypeError, match="no initialisation for PReLU"):
        fill_seeded(nn.Sequential(nn.PReLU()), 0)
