"""What a file says it is may be built, if it is a network; a file chooses nothing else to run."""

from __future__ import annotations

import sys

import onnx
import pytest
import torch

import anysize
from anysize.errors import SourceError, UsageError
from anysize.surgery import load_model
from anysize.verbs.original import find_original


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "good.onnx"
    anysize.export("lenet", path, head="spp", verify=False)
    return path


@pytest.fixture
def claiming(good, tmp_path):
    """Write a file that says something else of itself."""

    def write(**claims):
        model = onnx.load(good)
        entries = {entry.key: entry for entry in model.metadata_props}
        for name, value in claims.items():
            if value is None:
                model.metadata_props.remove(entries[f"anysize.{name}"])
                continue
            entry = entries.get(f"anysize.{name}") or model.metadata_props.add()
            entry.key, entry.value = f"anysize.{name}", value
        path = tmp_path / "claiming.onnx"
        onnx.save(model, path)
        return path

    return write


def found(path, reference=None):
    return find_original(path, load_model(path, weights="in_file"), reference, None)


def test_the_network_that_a_file_names_is_built_with_its_head_and_weights(good):
    module = found(good).model
    assert found(good).name == "lenet"
    assert module.head == "spp"
    images = torch.rand(1, 1, 40, 36, generator=torch.Generator().manual_seed(0))
    again = found(good).model
    assert torch.equal(module(images), again(images))


@pytest.mark.parametrize(
    "source",
    [
        "traps:make",
        "traps:Net",
        "traps:ready",
        "os:abort",
        "anysize.cli:main",
        "pytest:main",
        "torchvision.models:alexnet",
        "traps:make; rm -rf .",
        "timm:hf-hub:somebody/network",
        "torchvision:",
        "vgg1",
        ":make",
        "lenet\ntraps:make",
    ],
)
def test_a_file_chooses_no_code(claiming, tmp_path, monkeypatch, source):
    """Not even a network's, which may lie beside it in an archive."""
    (tmp_path / "traps.py").write_text(
        "import pathlib\n"
        "from torch import nn\n"
        "pathlib.Path('sprung').touch()\n"
        "class Net(nn.Sequential): pass\n"
        "def make(): return Net()\n"
        "ready = Net()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "traps", raising=False)
    with pytest.raises(UsageError, match="no file may choose which code is run") as refused:
        anysize.validate(claiming(model=source))
    assert "give --reference " in str(refused.value)
    assert not (tmp_path / "sprung").exists()


def test_the_command_of_a_refusal_goes_on(claiming, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from anysize.models import build\ndef make(): return build('lenet', head='spp')\n"
    )
    monkeypatch.chdir(tmp_path)
    path = claiming(model="mine:make")
    with pytest.raises(UsageError, match=r"give --reference mine:make$"):
        anysize.validate(path)
    assert anysize.validate(path, "mine:make", sizes="32x32").ok


class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.linear = torch.nn.Linear(6, 4)

    def forward(self, images):
        return self.linear(torch.relu(self.conv(images)).mean((2, 3)))


def test_a_module_in_memory_is_asked_for_and_not_guessed(tmp_path, run):
    module, path = Own().eval(), tmp_path / "own.onnx"
    anysize.export(module, path, size="16x16", verify=False)
    with pytest.raises(UsageError, match="was made of a module in memory") as refused:
        anysize.validate(path)
    assert "give --reference module:function" in str(refused.value)
    assert "--weights FILE" in str(refused.value)
    assert "--reference module:function --weights FILE" in run("inspect", path).out
    weights = tmp_path / "own.pt"
    torch.save(module.state_dict(), weights)
    report = anysize.validate(path, f"{__name__}:Own", weights=weights, sizes="16x16")
    assert report.ok
    assert not report.notes
    report = anysize.validate(path, f"{__name__}:Own", sizes="16x16")
    assert report.exit_code == 1
    assert "has other weights than the file was made of" in report.notes[0]


def test_other_random_weights_than_the_files_are_no_mismatch(claiming):
    """Such as another version of PyTorch draws."""
    with pytest.raises(UsageError, match="with other weights than it has when it is built anew"):
        anysize.validate(claiming(seed="1"), sizes="32x32")


def test_weights_count_and_not_the_file_they_came_from(tmp_path):
    from safetensors.torch import save_file

    from anysize.models import build, state_sha256

    module = build("lenet", head="fc", seed=7)
    save_file(module.state_dict(), tmp_path / "one.safetensors")
    torch.save({"state_dict": module.state_dict()}, tmp_path / "two.pt")
    path = tmp_path / "lenet.onnx"
    one, two = tmp_path / "one.safetensors", tmp_path / "two.pt"
    anysize.export("lenet", path, head="fcn", weights=one, verify=False)
    assert anysize.validate(path, weights=two, sizes="32x32").ok
    assert state_sha256(build("lenet", head="fcn", weights=two)) == state_sha256(module)
    assert state_sha256(build("lenet", head="fc", seed=8)) != state_sha256(module)


def test_a_person_chooses_anything(claiming, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text(
        "import functools, pathlib\npartial = functools.partial(pathlib.Path('sprung').touch)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="trap:partial: returned a NoneType"):
        anysize.validate(claiming(), "trap:partial")
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "claims",
    [
        {"model": "vgg16", "head": "fc", "size": "2048x2048"},
        {"options": '{"levels": [60000, 1]}'},
    ],
    ids=["size", "options"],
)
def test_a_network_far_larger_than_its_file_is_not_built(claiming, claims):
    path = claiming(**claims)
    source = claims.get("model", "lenet")
    for reference in (None, source):
        with pytest.raises(UsageError, match=rf"says that it is {source} .* and holds 54047 numb"):
            found(path, reference)


def test_a_file_without_weights_is_still_compared_with_what_it_says_it_is(claiming):
    """A wrong graph must turn red, and not be refused for what it lacks."""
    path = claiming(model="alexnet", head="fc", size="224x224", state_sha256=None)
    module = found(path).model
    assert sum(parameter.numel() for parameter in module.parameters()) > 50e6
