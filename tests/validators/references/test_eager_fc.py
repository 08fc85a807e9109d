"""An eager module is cut at its feature map, whatever its forward looks like, or refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import anysize
from anysize.errors import SourceError
from anysize.sizes import Size
from anysize.surgery import FileMetadata, write_metadata
from anysize.validators import validate_model
from anysize.validators.references import Rejected, WindowsReference
from anysize.validators.references.eager.fc import EagerFc

SIZE = Size(16, 16)
CHANNELS, MAP = 6, (3, 3)


class Written(nn.Module):
    """A trunk that leaves 6×3×3 of a 16×16 image, FC layers, and a forward of one's own."""

    def __init__(self, forward, features=CHANNELS * MAP[0] * MAP[1]):
        super().__init__()
        torch.manual_seed(3)
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.MaxPool2d(2), nn.Conv2d(8, CHANNELS, 3), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.fc = nn.Sequential(
            nn.Linear(features, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5)
        )
        self.written = forward
        self.eval()

    def forward(self, x):
        return self.written(self, x)


def view_by_the_images_batch(net, x):
    batch = x.shape[0]
    return net.fc(net.trunk(x).view(batch, -1))


def relu_in_place(net, x):
    return net.fc(torch.relu_(net.trunk(x)).flatten(1))


def assignment_in_place(net, x):
    x = net.trunk(x)
    x[:, 0] = 0.5
    return net.fc(x.flatten(1))


def two_heads(net, x):
    flat = net.trunk(x).flatten(1)
    return net.fc(flat), flat[:, :5] * 2


FORWARDS = {
    "torch.flatten": lambda net, x: net.fc(torch.flatten(net.trunk(x), 1)),
    "view": view_by_the_images_batch,
    "reshape(-1, K)": lambda net, x: net.fc(net.trunk(x).reshape(-1, 54)),
    "squeeze": lambda net, x: net.fc(net.trunk(x).reshape(-1, 54, 1, 1).squeeze(3).squeeze(2)),
    "identity pooling": lambda net, x: net.fc(F.adaptive_avg_pool2d(net.trunk(x), 3).flatten(1)),
    "channels last": lambda net, x: net.fc(net.trunk(x).permute(0, 2, 3, 1).flatten(1)),
    "softmax": lambda net, x: net.fc(net.trunk(x).flatten(1)).softmax(1),
    "log_softmax": lambda net, x: F.log_softmax(net.fc(net.trunk(x).flatten(1)), dim=1),
    "dict": lambda net, x: {"logits": net.fc(net.trunk(x).flatten(1))},
    "relu_": relu_in_place,
    "two heads": two_heads,
}
AVERAGES = {
    "mean": lambda net, x: net.fc(net.trunk(x).mean((2, 3))),
    "mean of means": lambda net, x: net.fc(net.trunk(x).mean(3).mean(2)),
    "adaptive pooling": lambda net, x: net.fc(F.adaptive_avg_pool2d(net.trunk(x), 1).flatten(1)),
    "kept axes": lambda net, x: net.fc(net.trunk(x).mean((2, 3), keepdim=True).flatten(1)),
    "flatten and mean": lambda net, x: net.fc(net.trunk(x).flatten(2).mean(2)),
    "local pooling": lambda net, x: net.fc(F.avg_pool2d(net.trunk(x), 3).flatten(1)),
    "channels last": lambda net, x: net.fc(net.trunk(x).permute(0, 2, 3, 1).mean((1, 2))),
}


def images(size=SIZE, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batch, 3, size.height, size.width)).astype(np.float32)


def whole(module, pictures, dtype=torch.float64):
    import copy

    with torch.no_grad():
        answer = copy.deepcopy(module).to(dtype)(torch.from_numpy(pictures).to(dtype))
    if isinstance(answer, dict):
        answer = tuple(answer.values())
    return tuple(t.numpy() for t in (answer if isinstance(answer, tuple) else (answer,)))


@pytest.mark.parametrize("forward", FORWARDS.values(), ids=FORWARDS)
def test_both_halves_together_are_the_whole(forward):
    module = Written(forward)
    fc = EagerFc(module, size=SIZE, channels=3)
    assert fc.window == MAP
    feature_map = fc.features(images(batch=3), "float64")
    assert feature_map.shape == (3, CHANNELS, *MAP)
    assert feature_map.dtype == np.float64
    for got, expected in zip(
        fc.head(feature_map, "float64"), whole(module, images(batch=3)), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("forward", FORWARDS.values(), ids=FORWARDS)
def test_a_larger_image_has_a_larger_map_and_a_smaller_one_is_rejected(forward):
    fc = EagerFc(Written(forward), size=SIZE, channels=3)
    assert fc.features(images(Size(24, 30)), "float32").shape == (2, CHANNELS, 5, 6)
    assert isinstance(fc.features(images(Size(5, 5)), "float32"), Rejected)


@pytest.mark.parametrize("forward", AVERAGES.values(), ids=AVERAGES)
def test_a_head_behind_an_average_works_cell_by_cell(forward):
    module = Written(forward, CHANNELS)
    module.fc = nn.Linear(CHANNELS, 5).eval()
    reference = WindowsReference(EagerFc(module, size=SIZE, channels=3), layout="both")
    logits, dense = reference.run({"input": images()}, "float64")
    assert dense.shape == (2, 5, *MAP)
    np.testing.assert_allclose(logits, whole(module, images())[0], rtol=0, atol=1e-14)
    larger = reference.run({"input": images(Size(21, 40))}, "float32")
    assert [a.shape for a in larger] == [(2, 5), (2, 5, 4, 9)]


def test_scores_stop_before_a_softmax_and_finish_applies_it():
    module = Written(FORWARDS["softmax"])
    fc = EagerFc(module, size=SIZE, channels=3)
    scores = fc.scores(fc.features(images(), "float64"), "float64")
    assert not np.allclose(scores[0].sum(1), 1)
    finished = fc.finish(scores, "float64")[0]
    np.testing.assert_allclose(finished, whole(module, images())[0], rtol=0, atol=1e-14)


def test_batch_normalisation_and_weights_are_left_as_they_were():
    module = Written(FORWARDS["torch.flatten"])
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    fc = EagerFc(module, size=SIZE, channels=3)
    fc.head(fc.features(images(), "float64"), "float64")
    after = module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(not tensor.is_meta for tensor in after.values())


def flattens_two_maps(net, x):
    early = net.trunk[:4](x)
    late = net.trunk[4:](early)
    return net.fc(late.flatten(1) + early[:, :6, :3, :3].flatten(1))


def looks_at_numbers(net, x):
    return net.fc(net.trunk(x).flatten(1)) if x.sum() > -1e9 else x


def counts_its_passes(net, x):
    net.passes = getattr(net, "passes", 0) + 1
    return net.fc(net.trunk(x).flatten(1)) * net.passes


def another_path(net, x):
    x = torch.tanh(x) if x.shape[2] > 16 else torch.sigmoid(x)
    return net.fc(net.trunk(x).flatten(1))


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (flattens_two_maps, "no single feature map leads to the outputs: conv2d makes another one"),
        (assignment_in_place, "no single feature map leads to the outputs: __setitem__"),
        (looks_at_numbers, "its forward cannot be followed at 16x16"),
        (counts_its_passes, "cut at its feature map it answers otherwise than whole"),
        (lambda _net, _x: torch.ones(2, 5), "its outputs do not come from the image"),
    ],
)
def test_a_module_without_a_clean_cut_is_refused_in_one_line(forward, reason):
    with pytest.raises(SourceError) as refused:
        EagerFc(Written(forward), size=SIZE, channels=3)
    message = str(refused.value)
    assert reason in message
    assert "--reference ORIGINAL.onnx" in message
    assert "\n" not in message


def test_another_path_at_another_size_is_refused():
    fc = EagerFc(Written(another_path), size=SIZE, channels=3)
    with pytest.raises(SourceError, match=r"takes another path at 20x20 \(tanh in the"):
        fc.features(images(Size(20, 20)), "float32")


def test_a_pooling_that_averages_a_part_of_the_map_is_refused():
    module = Written(lambda net, x: net.fc(F.avg_pool2d(net.trunk(x), 2).flatten(1)), CHANNELS)
    with pytest.raises(SourceError, match="pools otherwise than by the average of the whole map"):
        EagerFc(module, size=SIZE, channels=3)


class Dense(nn.Module):
    """The layers of `Written` with convolutions for its FC layers."""

    def __init__(self, module):
        super().__init__()
        first, last = module.fc[0], module.fc[4]
        self.trunk, self.norm = module.trunk, nn.BatchNorm2d(16)
        self.norm.load_state_dict(module.fc[1].state_dict())
        self.first, self.last = nn.Conv2d(CHANNELS, 16, MAP), nn.Conv2d(16, 5, 1)
        self.first.weight.data = first.weight.data.reshape(16, CHANNELS, *MAP)
        self.first.bias.data, self.last.bias.data = first.bias.data, last.bias.data
        self.last.weight.data = last.weight.data[..., None, None]
        self.eval()

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(self.trunk(x)))))


@pytest.fixture(scope="module")
def dense_graph():
    from anysize.exporters import ExportSpec, export_module

    dense = Dense(Written(FORWARDS["view"]))
    model = export_module(dense, ExportSpec("dense", None, 3, 5, SIZE)).loaded()
    write_metadata(model, FileMetadata(head="fcn", size=SIZE, min_size=SIZE, classes=5))
    return model


def unharmed(tensors):
    del tensors


def shuffle(tensors):
    flat = tensors["first.weight"].reshape(16, *MAP, CHANNELS)
    tensors["first.weight"] = flat.transpose(0, 3, 1, 2)


def drop_bias(tensors):
    tensors["last.bias"] = np.zeros_like(tensors["last.bias"])


@pytest.mark.parametrize(
    ("harm", "verdict"), [(unharmed, "pass"), (shuffle, "mismatch"), (drop_bias, "mismatch")]
)
def test_a_wrong_map_is_red_against_the_eager_module(harm, verdict, dense_graph, tmp_path):
    graph = onnx.ModelProto()
    graph.CopyFrom(dense_graph)
    tensors = {t.name: onnx.numpy_helper.to_array(t).copy() for t in graph.graph.initializer}
    harm(tensors)
    for tensor in graph.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(tensors[tensor.name].copy(), tensor.name))
    onnx.save(graph, tmp_path / "dense.onnx")
    report = validate_model(
        tmp_path / "dense.onnx",
        Written(FORWARDS["view"]),
        sizes=[SIZE, Size(21, 33)],
        batches=(2,),
    )
    assert {str(cell.verdict) for cell in report.cells} == {verdict}
    assert report.reference.kind == "windows"


def test_a_module_that_is_fully_convolutional_itself_is_compared_as_it_is(tmp_path):
    """Its answers are maps; the windows of a map have no maps of their own."""

    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(5)
            self.conv = nn.Conv2d(3, 6, 3, stride=4, padding=1)
            self.first, self.last = nn.Conv2d(6, 8, 3), nn.Conv2d(8, 5, 1)

        def forward(self, images):
            maps = torch.relu(self.conv(images))
            return self.last(torch.relu(self.first(maps)))

    path = tmp_path / "dense.onnx"
    anysize.export(Dense().eval(), path, size=Size(12, 12), verify=False)
    model = onnx.load(path)
    entries = {entry.key: entry for entry in model.metadata_props}
    entries["anysize.head"].value = "fcn"
    onnx.save(model, path)
    sizes = [Size(12, 12), Size(24, 17)]
    report = validate_model(path, Dense().eval(), sizes=sizes, amplified=False)
    assert report.ok, [cell.message for cell in report.cells]
    assert report.reference.kind == "module"
