"""`anysize export --head fcn|cam|adaptive|resize` of a module that is not in the zoo."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from torch import nn

import anysize
from anysize.errors import ExportError, UsageError
from anysize.sizes import Size, SizeRange
from anysize.surgery import read_metadata

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

NETS = '''
"""Networks as people write them; 16×16 images give a map of 6×3×3."""
import sys
import torch
from torch import nn

sys.path.append({benchmarks!r})


class Net(nn.Module):
    def __init__(self, pool=None, features=54):
        super().__init__()
        torch.manual_seed(3)
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.MaxPool2d(2), nn.Conv2d(8, 6, 3), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(pool) if pool else nn.Identity()
        self.fc1, self.norm = nn.Linear(features, 16), nn.BatchNorm1d(16)
        self.fc2 = nn.Linear(16, 5)
        self.drop = nn.Dropout()

    def forward(self, x):
        batch = x.shape[0]
        x = self.avgpool(self.trunk(x)).view(batch, -1)
        return self.fc2(self.drop(torch.relu(self.norm(self.fc1(x)))))


class Averaged(Net):
    def __init__(self):
        super().__init__()
        self.fc2 = nn.Linear(6, 5)

    def forward(self, x):
        return self.fc2(self.drop(self.trunk(x).mean((2, 3))))


class Named(Net):
    def forward(self, x):
        return {{"scores": super().forward(x).softmax(1)}}


class Twofold(Net):
    def forward(self, x):
        return {{"logits": super().forward(x), "means": self.trunk(x).mean((2, 3))}}


class Early(Net):
    """An auxiliary classifier on the map before the last pooling, as GoogLeNet has them."""

    def __init__(self):
        super().__init__()
        self.side = nn.Linear(8 * 8 * 8, 3)

    def forward(self, x):
        early = self.trunk[:4](x)
        late = self.trunk[4:](early).flatten(1)
        return self.fc2(torch.relu(self.norm(self.fc1(late)))), self.side(early.flatten(1))


class Partly(Net):
    def forward(self, x):
        return {{"logits": super().forward(x), "aux": None}}


def pooled():
    return Net(pool=3)


def misfit():
    return Net(pool=2, features=24)


def alexnet():
    from architectures.alexnet import alexnet

    return alexnet(width=8, hidden=64)
'''


@pytest.fixture
def nets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"nets_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(NETS.format(benchmarks=str(BENCHMARKS)))
    path = list(sys.path)
    yield name
    sys.path[:] = path
    sys.modules.pop(name, None)


def verdicts(run, path, *arguments):
    source = read_metadata(onnx.load(path, load_external_data=False)).model  # no file chooses code
    done = run("validate", path, "--reference", source, "--json", "-", *arguments)
    cells = json.loads(done.out)["cells"]
    return done.code, {cell["size"]: cell["verdict"] for cell in cells}


@pytest.mark.parametrize("head", ["fcn", "adaptive"])
def test_heads_on_several_maps_are_each_compared_with_their_own_layers(head, nets, run, tmp_path):
    path = tmp_path / "out.onnx"
    done = run("export", f"{nets}:Early", "--size", "16x16", "--head", head, "-o", path)
    assert done.code == 0
    assert "verified on ort-cpu" in done.out
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if t.name == "side.weight")
    weight.raw_data = (onnx.numpy_helper.to_array(weight) * np.float32(1.01)).tobytes()
    onnx.save(model, path)
    code, found = verdicts(run, path, "--sizes", "16x16,20x24", "--batches", "1")
    assert code == 1
    assert set(found.values()) == {"mismatch"}


@pytest.mark.parametrize(
    ("net", "head", "outputs"),
    [
        ("Net", "fcn", ["map"]),
        ("pooled", "fcn", ["map"]),
        ("Named", "fcn", ["map"]),
        ("Averaged", "cam", ["logits", "map"]),
        ("Net", "adaptive", ["logits"]),
        ("Net", "resize", ["logits"]),
        ("pooled", "resize", ["logits"]),
        ("Averaged", "resize", ["logits"]),
    ],
)
def test_a_module_is_converted_and_validates(net, head, outputs, nets, run, tmp_path):
    path = tmp_path / "out.onnx"
    done = run(
        "export", f"{nets}:{net}", "--size", "16x16", "--head", head, "-o", path, "--no-verify"
    )
    assert (done.code, done.errors) == (0, [])
    assert f"head {head}, " in done.out
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == outputs
    said = read_metadata(model)
    assert (said.model, said.head, said.classes) == (f"{nets}:{net}", head, 5)
    assert (said.seed, said.max_size) == (0, None)
    assert (said.map_stride is not None) == ("map" in outputs)
    code, found = verdicts(run, path, "--sizes", "16x16,21x33")
    assert (code, set(found.values())) == (0, {"pass"})


def test_a_conversion_is_proved_before_the_file_appears(nets, run, tmp_path):
    path = tmp_path / "out.onnx"
    done = run("export", f"{nets}:Net", "--size", "16x16", "--head", "fcn", "-o", path)
    assert (done.code, done.errors) == (0, [])
    assert "verified on ort-cpu at " in done.out


def test_a_wrong_conversion_is_not_written(nets, run, tmp_path, monkeypatch):
    from anysize.exporters import export

    convert = export.convert

    def forgets_a_bias(model, weights, **words):
        reason = convert(model, weights, **words)
        bias = next(t for t in model.graph.initializer if t.name == "fc2.bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(0 * onnx.numpy_helper.to_array(bias), bias.name))
        return reason

    monkeypatch.setattr(export, "convert", forgets_a_bias)
    path = tmp_path / "out.onnx"
    done = run("export", f"{nets}:Net", "--size", "16x16", "--head", "fcn", "-o", path)
    assert done.code == 1
    assert "the exported graph is wrong and was not written" in done.errors[0]
    assert not path.exists()


def test_alexnet_is_slid_over_a_larger_image(nets, run, tmp_path):
    path = tmp_path / "out.onnx"
    done = run("export", f"{nets}:alexnet", "--head", "fcn", "-o", path, "--no-verify")
    assert done.code == 0
    assert "AdaptiveAveragePool2d" not in {node.op_type for node in onnx.load(path).graph.node}
    code, found = verdicts(run, path, "--sizes", "224x224,260x291", "--batches", "2")
    assert (code, found) == (0, {"224x224": "pass", "260x291": "pass"})


def test_half_bounds_opset_and_external_data_go_with_a_conversion(nets, run, tmp_path):
    path = tmp_path / "out.onnx"
    done = run(
        "export", f"{nets}:Net", "--size", "16x16", "--head", "fcn", "-o", path, "--no-verify",
        "--min-size", "17x18", "--max-size", "40x50", "--opset", "20", "--half",
        "--external-data", "always",
    )  # fmt: skip
    assert (done.code, done.errors) == (0, [])
    assert "sizes 17x18 to 40x50" in done.out
    model = onnx.load(path)
    assert {entry.version for entry in model.opset_import} == {20}
    assert read_metadata(model).precision == "float16"
    weights = [t for t in model.graph.initializer if t.name.endswith("weight")]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    code, found = verdicts(run, path, "--sizes", "16x18,17x18,40x50,41x50")
    assert code == 0
    assert [found[size] for size in ("16x18", "17x18", "40x50", "41x50")] == [
        "rejected", "pass", "pass", "rejected",
    ]  # fmt: skip


def test_what_takes_any_size_already_is_exported_as_it_stands_and_says_so(nets, run, tmp_path):
    path = tmp_path / "out.onnx"
    done = run(
        "export", f"{nets}:pooled", "--size", "16x16", "--head", "adaptive", "-o", path,
        "--no-verify",
    )  # fmt: skip
    assert done.code == 0
    assert "--head adaptive: " in done.err
    assert "already; exported as it stands" in done.err
    assert "head as-is, sizes 8x8 and up" in done.out


@pytest.mark.parametrize(
    ("net", "head", "story"),
    [
        (
            "misfit",
            "fcn",
            "layer 'avgpool' pools the 3x3 map of a 16x16 image to 2x2, so its FC layers saw no",
        ),
        (
            "misfit",
            "fcn",
            "trained at 12x12 to 15x15, it would be the identity: give that --size",
        ),
        ("Averaged", "fcn", "takes any size already"),
        ("Averaged", "fcn", "give --head as-is, or cam for a class map"),
        ("Net", "cam", "--head cam: node "),
        ("Net", "spp", "head 'spp': expected one of as-is, fcn, cam, adaptive, resize; "),
        ("Partly", "as-is", "Partly: its output 'aux' is NoneType, expected a tensor"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_line(net, head, story, nets, run, tmp_path):
    done = run(
        "export", f"{nets}:{net}", "--size", "16x16", "--head", head, "-o", tmp_path / "out.onnx"
    )
    assert done.code == 2
    (line,) = done.errors
    assert story in line
    assert not list(tmp_path.glob("*.onnx"))


def test_tensors_of_a_dict_keep_their_names(nets, run, tmp_path):
    path = tmp_path / "out.onnx"
    done = run("export", f"{nets}:Twofold", "--size", "16x16", "-o", path, "--no-verify")
    assert (done.code, done.errors) == (0, [])
    assert [value.name for value in onnx.load(path).graph.output] == ["logits", "means"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_module_in_half_precision_is_refused_early(dtype, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 5)).eval()
    with pytest.raises(UsageError, match=r"'0.weight' is .*float16, expected float32"):
        anysize.export(net.to(dtype), tmp_path / "out.onnx", size="16x16")


def test_a_module_is_converted_from_python(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(196, 5))
    done = anysize.export(net.eval(), tmp_path / "out.onnx", head="fcn", size="16x16")
    assert (done.head, done.outputs, str(done.sizes)) == ("fcn", ("map",), "16x16 and up")
    assert done.report is not None
    assert done.report.reference.kind == "windows"


def test_choices_within_a_zoo_head_are_options(run, tmp_path):
    path = tmp_path / "out.onnx"
    spp = ("export", "lenet", "--head", "spp", "-o", path, "--no-verify", "--levels")
    assert run(*spp, "2,1", "--bins", "adaptive").code == 0
    assert json.loads(read_metadata(onnx.load(path)).options or "") == {"levels": [2, 1]}
    assert "--levels 'two': expected whole numbers such as 4,2,1" in run(*spp, "two").err


def test_a_tuple_is_named_by_place_and_other_things_are_refused():
    from anysize import Size
    from anysize.exporters import output_names

    class Returns(nn.Module):
        def __init__(self, make):
            super().__init__()
            self.make = make

        def forward(self, x):
            return self.make(x.mean((2, 3)))

    def names(make):
        return output_names(Returns(make), channels=3, size=Size(8, 8))

    assert names(lambda x: x) == ("logits",)
    assert names(lambda x: (x, x + 1)) == ("logits", "output_1")
    assert names(lambda x: {"a": x, "b": x}) == ("a", "b")
    for make, story in (
        (lambda x: (x, [x]), "its output 'output_1' is list, expected a tensor"),
        (lambda x: {"input": x}, "calls an output 'input', as an input is"),
        (lambda _x: "cat", "returns str, expected a tensor"),
    ):
        with pytest.raises(ExportError, match=story):
            names(make)


class Windowed(nn.Module):
    """A CIFAR network: an average over a window that is the whole map at 32×32."""

    def __init__(self, pool):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.pool, self.fc = pool, nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.a(x))))
        return self.fc(self.pool(x).view(x.size(0), -1))


POOLS = {
    "window": lambda x: torch.nn.functional.avg_pool2d(x, 4),
    "window that slides": lambda x: torch.nn.functional.avg_pool2d(x, 4, 1),
    "module": nn.AvgPool2d(4),
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize(("head", "least"), [("fcn", 25), ("adaptive", 25), ("cam", 1)])
def test_an_average_over_a_window_slides_or_is_global_as_the_head_has_it(
    tmp_path, pool, head, least
):
    module = Windowed(pool).eval()
    done = anysize.export(module, tmp_path / "out.onnx", size="32x32", head=head)
    assert done.sizes == SizeRange(Size(least, least))
    assert done.report is not None
    assert {cell.verdict for cell in done.report.cells} <= {"pass", "rejected"}
