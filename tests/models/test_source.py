import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch

from anysize.errors import SourceError, UsageError
from anysize.files import file_sha256
from anysize.models import Classifier, build, resolve
from anysize.sizes import Size

USER_MODULE = """
import torch
from torch import nn
import sibling_of_user_nets

def tiny():
    import late_sibling
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))

def number():
    return 42

def needs(argument):
    return nn.Identity()

def breaks():
    raise ValueError("no weights\\nhere")

def leaves():
    raise SystemExit(3)

class Nets:
    tiny = staticmethod(tiny)

ready = nn.Conv2d(5, 1, 1)
constant = 3.5
"""


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user_nets.py").write_text(USER_MODULE)
    (tmp_path / "user_broken.py").write_text("import a_module_that_nobody_has\n")
    (tmp_path / "user_typo.py").write_text("def tiny(:\n")
    (tmp_path / "user_exits.py").write_text("raise SystemExit('bye')\n")
    (tmp_path / "sibling_of_user_nets.py").write_text("")
    (tmp_path / "late_sibling.py").write_text("")
    yield tmp_path
    for name in ("user_nets", "sibling_of_user_nets", "late_sibling"):
        sys.modules.pop(name, None)


def refusal(source, **arguments):
    with pytest.raises(SourceError) as caught:
        resolve(source, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_zoo_name_is_resolved_with_what_is_known():
    found = resolve("lenet", head="fcn", size=Size(36, 32), seed=4)
    assert isinstance(found.module, Classifier)
    assert (found.name, found.head, found.channels, found.classes) == ("lenet", "fcn", 1, 10)
    assert (found.training_size, found.seed, found.weights_sha256) == (Size(36, 32), 4, None)


def test_weights_are_loaded_and_hashed(tmp_path):
    path = tmp_path / "lenet.pth"
    torch.save(build("lenet", seed=8, classes=3).state_dict(), path)
    found = resolve("lenet", weights=path)
    assert found.weights_sha256 == file_sha256(path)
    assert found.classes == 3


def test_shipped_digits_weights_are_hashed_too():
    assert resolve("digits", head="cam").weights_sha256 is not None
    assert resolve("digits", size=Size(40, 40)).weights_sha256 is None


def test_misspelt_name_gets_close_matches_and_the_list():
    message = refusal("alexnett")
    assert "did you mean alexnet" in message
    assert "alexnet, digits, lenet" in message
    assert "did you mean" not in refusal("zzz")


def test_users_callable_is_resolved_from_the_working_folder(user_folder):
    path_before = list(sys.path)
    found = resolve("user_nets:tiny", size=Size(20, 30), head="as-is")
    assert sys.path == path_before
    assert (found.head, found.channels, found.classes) == (None, 2, None)
    assert found.training_size == Size(20, 30)
    assert not found.module.training
    assert resolve("user_nets:Nets.tiny").training_size == Size(224, 224)
    assert resolve("user_nets:ready").channels == 5


def test_users_weights_are_seeded_without_touching_the_global_state(user_folder):
    state = torch.get_rng_state()
    one, same, other = (resolve("user_nets:tiny", seed=s).module for s in (1, 1, 2))
    assert torch.equal(one[0].weight, same[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_users_weights_file_is_loaded(user_folder):
    torch.save(resolve("user_nets:tiny", seed=1).module.state_dict(), user_folder / "w.pth")
    found = resolve("user_nets:tiny", seed=2, weights=user_folder / "w.pth")
    assert torch.equal(found.module[0].weight, resolve("user_nets:tiny", seed=1).module[0].weight)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("user_absent:net", "ModuleNotFoundError: No module named 'user_absent'"),
        ("user_broken:net", "No module named 'a_module_that_nobody_has'"),
        ("user_typo:net", "importing user_typo failed: SyntaxError"),
        ("user_exits:net", "importing user_exits failed: SystemExit: bye"),
        ("user_nets:nothing", "module user_nets has no attribute 'nothing'"),
        ("user_nets:constant", "is a float, expected a callable"),
        ("user_nets:number", "returned a int, expected an nn.Module"),
        ("user_nets:needs", "calling it without arguments failed: TypeError"),
        ("user_nets:breaks", "failed: ValueError: no weights"),
        ("user_nets:leaves", "failed: SystemExit: 3"),
        (":net", "expected a zoo name"),
        ("user_nets:", "expected a zoo name"),
    ],
)
def test_source_that_gives_no_module_says_why(user_folder, source, message):
    assert message in refusal(source)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_missing_library_names_the_install_command(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.models", None)
    message = refusal(f"{library}:resnet18")
    assert 'pip install "anysize[vision]"' in message


def test_torchvision_model_is_built_without_downloading(monkeypatch):
    calls = []

    class Models:
        @staticmethod
        def get_model(name, *, weights):
            calls.append((name, weights))
            if name != "net":
                raise ValueError(f"Unknown model {name}")
            return torch.nn.Conv2d(4, 1, 1)

    monkeypatch.setitem(sys.modules, "torchvision", Models)
    monkeypatch.setitem(sys.modules, "torchvision.models", Models)
    assert resolve("torchvision:net").channels == 4
    assert calls == [("net", None)]
    assert "Unknown model nett" in refusal("torchvision:nett")


def test_head_is_refused_for_a_model_that_comes_as_it_is(user_folder):
    with pytest.raises(UsageError, match="head 'fcn' is chosen for zoo networks only"):
        resolve("user_nets:tiny", head="fcn")


@pytest.mark.parametrize(
    "source", ["user_nets.tiny", "user_nets.py:tiny", "./user_nets.py:Nets.tiny"]
)
def test_a_source_of_ones_own_is_written_as_its_owner_likes(user_folder, source):
    found = resolve(source, seed=1)
    assert found.name == source
    same = resolve("user_nets:tiny", seed=1).module
    assert torch.equal(found.module[0].weight, same[0].weight)


def test_a_file_may_lie_anywhere_and_be_called_as_an_installed_module(user_folder, monkeypatch):
    folder = user_folder / "nets"
    folder.mkdir()
    (folder / "beside.py").write_text("WIDTH = 6\n")
    (folder / "types.py").write_text(
        "import beside\nfrom torch import nn\ndef make(width=beside.WIDTH):\n"
        "    return nn.Conv2d(width, 1, 1)\n"
    )
    path = list(sys.path)
    assert resolve("nets/types.py:make").channels == 6
    assert resolve(f"{folder}/types.py:make", arguments={"width": 2}).channels == 2
    assert sys.path == path
    sys.modules.pop("beside")


def test_a_file_without_a_name_is_told_what_is_missing(user_folder):
    with pytest.raises(UsageError, match=r"say which model in it is meant, user_nets\.py:NAME"):
        resolve("user_nets.py")
    assert "file gone.py has no" not in refusal("gone.py:make")
    assert "FileNotFoundError" in refusal("gone.py:make")
    assert "user_nets.py has no attribute 'other'" in refusal("user_nets.py:other")


def test_arguments_reach_what_makes_the_model(user_folder):
    (user_folder / "user_args.py").write_text(
        "from torch import nn\ndef make(num_classes):\n    return nn.Conv2d(3, num_classes, 1)\n"
        "ready = make(1)\n"
    )
    found = resolve("user_args.py:make", arguments={"num_classes": 12})
    assert found.module.out_channels == 12
    assert "give --model-args" in refusal("user_args.py:make")
    assert "calling it with other failed" in refusal("user_args.py:make", arguments={"other": 1})
    assert "arguments are given" in refusal("user_args.py:ready", arguments={"num_classes": 1})


def test_classes_of_a_zoo_network_are_an_argument():
    assert resolve("lenet", arguments={"num_classes": 12}).classes == 12
    for wrong in ({"width": 2}, {"num_classes": "12"}, {"num_classes": 12, "x": 1}):
        with pytest.raises(UsageError, match="expected a number of num_classes"):
            resolve("lenet", arguments=wrong)


def test_arguments_of_a_library_load_no_weights(monkeypatch):
    class Models:
        @staticmethod
        def get_model(name, *, weights, num_classes):
            return torch.nn.Conv2d(4, num_classes, 1)

    monkeypatch.setitem(sys.modules, "torchvision", Models)
    monkeypatch.setitem(sys.modules, "torchvision.models", Models)
    found = resolve("torchvision:net", arguments={"num_classes": 12})
    assert found.module.out_channels == 12
    for name in ("weights", "checkpoint_path"):
        with pytest.raises(UsageError, match="give a file with --weights FILE"):
            resolve("torchvision:net", arguments={name: "x"})


def test_a_networks_own_configuration_says_how_its_images_are_prepared(monkeypatch):
    from anysize.models import configured_preprocessing
    from anysize.preprocessing import Preprocessing

    module = torch.nn.Conv2d(3, 1, 1)
    assert configured_preprocessing(module) is None
    # As timm 1.0 has it; its "random" is a choice between two.
    module.pretrained_cfg = {
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "crop_pct": 0.9,
        "interpolation": "bicubic",
    }
    expected = Preprocessing("rgb", 1 / 255, (0.5,) * 3, (0.25,) * 3, 0.9, "bicubic")
    assert configured_preprocessing(module) == expected
    module.pretrained_cfg["interpolation"] = "random"
    assert configured_preprocessing(module) == replace(expected, interpolation=None)


def test_torchvisions_transforms_are_read_and_nothing_is_downloaded(monkeypatch):
    from anysize.preprocessing import Preprocessing

    transforms = SimpleNamespace(
        mean=[0.4] * 3, std=[0.2] * 3, crop_size=[224], resize_size=[256],
        interpolation=SimpleNamespace(value="bilinear"),
    )  # fmt: skip
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: transforms))

    def get_model(name, weights):
        assert weights is None
        return torch.nn.Conv2d(3, 1, 1)

    models = ModuleType("torchvision.models")
    models.get_model, models.get_model_weights = get_model, lambda name: weights
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    expected = Preprocessing("rgb", 1 / 255, (0.4,) * 3, (0.2,) * 3, 0.875, "bilinear")
    assert resolve("torchvision:net").preprocessing == expected
    weights.DEFAULT = None  # trained by nobody
    assert resolve("torchvision:net").preprocessing is None
