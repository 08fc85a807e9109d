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
            entry = entries.get(f"anysize.{name}") or model.metadata_props.add()
            entry.key, entry.value = f"anysize.{name}", value
        path = tmp_path / "claiming.onnx"
        onnx.save(model, path)
        return path

    return write


def found(path, reference=None):
    return find_original(path, load_model(path, weights="in_file"), reference, None)


def test_the_network_that_a_file_names_is_built_with_its_head_and_weights(good):
    module, name = found(good)
    assert name == "lenet"
    assert module.head == "spp"
    images = torch.rand(1, 1, 40, 36, generator=torch.Generator().manual_seed(0))
    again, _ = found(good)
    assert torch.equal(module(images), again(images))


@pytest.mark.parametrize(
    "source",
    ["mine:make", "mine:Net", "mine:ready"],
)
def test_a_network_in_code_of_ones_own_is_built(claiming, tmp_path, monkeypatch, source):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential): pass\n"
        "def make(): return Net()\n"
        "ready = Net()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    module, name = found(claiming(model=source))
    assert type(module).__name__ == "Net"
    assert name == source


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("os:abort", "no network lies there"),
        ("http.server:test", "no network lies there"),
        ("anysize.cli:main", "no network lies there"),
        ("numpy:test", "is no nn.Module"),
        ("pytest:main", "is no nn.Module"),
        ("hypothesis:reject", "is no nn.Module"),
        ("traps:Trap", "is no nn.Module"),
        ("traps:trap", "is no nn.Module"),
        ("traps:partial", "is no nn.Module"),
        ("traps:make; rm -rf .", "which no file may choose"),
        ("timm:hf-hub:somebody/network", "which no file may choose"),
        ("torchvision:", "which no file may choose"),
        (":make", "which no file may choose"),
        ("lenet\ntraps:make", "which no file may choose"),
    ],
)
def test_a_file_chooses_nothing_else_to_run(claiming, tmp_path, monkeypatch, source, reason):
    (tmp_path / "traps.py").write_text(
        "import functools, pathlib\n"
        "class Trap:\n"
        "    def __init__(self): pathlib.Path('sprung').touch()\n"
        "    __call__ = __init__\n"
        "trap = object.__new__(Trap)\n"
        "partial = functools.partial(Trap)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "traps", raising=False)
    with pytest.raises((UsageError, SourceError), match=reason):
        anysize.validate(claiming(model=source))
    assert not (tmp_path / "sprung").exists()


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
    module, _ = found(claiming(model="alexnet", head="fc", size="224x224"))
    assert sum(parameter.numel() for parameter in module.parameters()) > 50e6
