import pytest

from anysize.models import ZOO, construct

PARAMETERS = {
    "alexnet": 61_100_840,
    "lenet": 61_706,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
}


def shapes(name, head=None):
    return {
        key: tuple(value.shape) for key, value in construct(name, head=head).state_dict().items()
    }


def with_bias(layers):
    return {
        f"{layer}.{kind}": shape
        for layer, weight in layers.items()
        for kind, shape in (("weight", weight), ("bias", weight[:1]))
    }


def norm(layer, width):
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{layer}.{kind}": (width,) for kind in kinds}, f"{layer}.num_batches_tracked": ()}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_is_that_of_the_published_network(name):
    assert sum(p.numel() for p in construct(name).parameters()) == PARAMETERS[name]


def test_fully_connected_layers_hold_the_published_share_of_the_parameters():
    def fc_count(name):
        parameters = construct(name).named_parameters()
        return sum(p.numel() for key, p in parameters if key.startswith("classifier."))

    assert fc_count("vgg16") == 123_642_856
    assert fc_count("alexnet") == 58_631_144


def test_alexnet_state_dict_is_torchvisions():
    assert shapes("alexnet") == with_bias(
        {
            "features.0": (64, 3, 11, 11),
            "features.3": (192, 64, 5, 5),
            "features.6": (384, 192, 3, 3),
            "features.8": (256, 384, 3, 3),
            "features.10": (256, 256, 3, 3),
            "classifier.1": (4096, 9216),
            "classifier.4": (4096, 4096),
            "classifier.6": (1000, 4096),
        }
    )


def test_vgg16_state_dict_is_torchvisions():
    convolutions = {
        0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256),
        14: (256, 256), 17: (512, 256), 19: (512, 512), 21: (512, 512), 24: (512, 512),
        26: (512, 512), 28: (512, 512),
    }  # fmt: skip
    layers = {f"features.{index}": (*shape, 3, 3) for index, shape in convolutions.items()}
    layers |= {"classifier.0": (4096, 25088), "classifier.3": (4096, 4096)}
    layers |= {"classifier.6": (1000, 4096)}
    assert shapes("vgg16") == with_bias(layers)


def test_vgg11_bn_state_dict_is_torchvisions():
    convolutions = {
        0: (64, 3), 4: (128, 64), 8: (256, 128), 11: (256, 256), 15: (512, 256), 18: (512, 512),
        22: (512, 512), 25: (512, 512),
    }  # fmt: skip
    layers = {f"features.{index}": (*shape, 3, 3) for index, shape in convolutions.items()}
    layers |= {"classifier.0": (4096, 25088), "classifier.3": (4096, 4096)}
    expected = with_bias(layers | {"classifier.6": (1000, 4096)})
    for index, shape in convolutions.items():
        expected |= norm(f"features.{index + 1}", shape[0])
    assert shapes("vgg11_bn") == expected


def test_resnet18_state_dict_is_torchvisions():
    expected = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            prefix = f"layer{stage}.{block}"
            expected[f"{prefix}.conv1.weight"] = (width, channels, 3, 3)
            expected[f"{prefix}.conv2.weight"] = (width, width, 3, 3)
            expected |= norm(f"{prefix}.bn1", width) | norm(f"{prefix}.bn2", width)
            if channels != width:
                expected[f"{prefix}.downsample.0.weight"] = (width, channels, 1, 1)
                expected |= norm(f"{prefix}.downsample.1", width)
            channels = width
    assert shapes("resnet18") == expected | {"fc.weight": (1000, 512), "fc.bias": (1000,)}


def test_resnet50_state_dict_is_torchvisions():
    expected = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    channels = 64
    for stage, (width, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(count):
            prefix = f"layer{stage}.{block}"
            expected[f"{prefix}.conv1.weight"] = (width, channels, 1, 1)
            expected[f"{prefix}.conv2.weight"] = (width, width, 3, 3)
            expected[f"{prefix}.conv3.weight"] = (4 * width, width, 1, 1)
            expected |= norm(f"{prefix}.bn1", width) | norm(f"{prefix}.bn2", width)
            expected |= norm(f"{prefix}.bn3", 4 * width)
            if block == 0:
                expected[f"{prefix}.downsample.0.weight"] = (4 * width, channels, 1, 1)
                expected |= norm(f"{prefix}.downsample.1", 4 * width)
            channels = 4 * width
    assert shapes("resnet50") == expected | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnet_takes_its_strides_where_torchvision_does(name):
    block = construct(name).get_submodule("layer2.0")
    strided = block.conv1 if name == "resnet18" else block.conv2
    assert strided.stride == (2, 2)
    assert block.downsample[0].stride == (2, 2)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_structure_alone_takes_no_memory(name):
    assert all(tensor.is_meta for tensor in construct(name).state_dict().values())


def test_network_in_network_has_no_fully_connected_layer():
    keys = shapes("nin")
    assert all(len(shape) != 2 for shape in keys.values())
    assert keys["classifier.weight"] == (1000, 1024, 1, 1)
