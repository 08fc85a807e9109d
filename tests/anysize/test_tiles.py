"""A large image in tiles has the map that it has whole."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import anysize
from anysize.errors import UnsupportedModelError
from anysize.sizes import Size, SizeRange, Steps
from anysize.surgery import load_model, map_geometry
from anysize.surgery.graph import Graph
from anysize.verbs import tiles as tiles_module
from anysize.verbs.class_map import class_map
from anysize.verbs.tiles import tiles


def conv(*channels, **options):
    return nn.Sequential(nn.Conv2d(*channels, **options), nn.ReLU())


class Squeezed(nn.Module):
    """Each cell sees the whole image, by an average that scales it."""

    def __init__(self):
        super().__init__()
        self.body = conv(3, 8, kernel_size=3, stride=2, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.body(x)
        x = x * x.mean((2, 3), keepdim=True)
        return self.head(x.mean((2, 3)))


NETWORKS = {
    "padded, strided": lambda: nn.Sequential(
        conv(3, 8, kernel_size=7, stride=2, padding=3),
        nn.MaxPool2d(3, 2, 1),
        conv(8, 8, kernel_size=3, padding=1),
        conv(8, 12, kernel_size=3, stride=2, padding=1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    ),
    "ceil mode": lambda: nn.Sequential(
        conv(3, 8, kernel_size=3, padding=2, dilation=2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d(2, 2, ceil_mode=True),
        conv(8, 6, kernel_size=5, padding=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    ),
    "without padding": lambda: nn.Sequential(
        conv(3, 8, kernel_size=5), nn.AvgPool2d(3), conv(8, 8, kernel_size=3, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ),
    "the whole image": Squeezed,
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def file(request, tmp_path):
    torch.manual_seed(0)
    module = NETWORKS[request.param]().eval()
    path = tmp_path / "net.onnx"
    anysize.export(module, path, head="cam", size=64, verify=False)
    return path, request.param


@pytest.mark.parametrize("size", [(103, 157), (128, 128), (67, 320)], ids=str)
def test_tiles_give_the_map_of_the_whole(file, size, monkeypatch):
    path, name = file
    image = np.random.default_rng(1).standard_normal((1, 3, *size)).astype(np.float32)
    seen = []

    def pixels(rows, columns):
        seen.append((rows, columns))
        return image[:, :, rows, columns]

    if name == "the whole image":  # its cells have no place on the image, and so no tiles
        assert map_geometry(load_model(path), "map") is None
        with pytest.raises(UnsupportedModelError, match="known place on the image"):
            class_map(path, Size(*size), pixels)
        return
    whole = class_map(path, Size(*size), pixels)
    assert len(seen) == whole.tiles == 1
    monkeypatch.setattr(tiles_module, "_MOST_BYTES", 0)  # as small as they can be
    tiled = class_map(path, Size(*size), pixels)
    assert tiled.scores.shape == whole.scores.shape
    assert tiled.tiles > 4
    largest = np.abs(whole.scores).max()
    # Kernels sum in another order on other shapes: some steps of float32, as in the strict budget.
    assert np.abs(tiled.scores - whole.scores).max() <= 32 * np.finfo(np.float32).eps * largest


def test_a_tile_that_begins_off_the_stride_would_be_noticed(tmp_path, monkeypatch):
    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    module = NETWORKS["padded, strided"]().eval()
    anysize.export(module, path, head="cam", size=64, verify=False)
    image = np.random.default_rng(1).standard_normal((1, 3, 128, 128)).astype(np.float32)

    def shifted(rows, columns):
        rows = slice(rows.start + (1 if rows.start else 0), rows.stop + (1 if rows.start else 0))
        part = image[:, :, rows, columns]
        missing = rows.stop - rows.start - part.shape[2]
        return np.pad(part, ((0, 0), (0, 0), (0, missing), (0, 0)))

    whole = class_map(path, Size(128, 128), lambda rows, columns: image[:, :, rows, columns])
    monkeypatch.setattr(tiles_module, "_MOST_BYTES", 0)
    wrong = class_map(path, Size(128, 128), shifted)
    assert np.abs(wrong.scores - whole.scores).max() > 1e-2 * np.abs(whole.scores).max()


@pytest.mark.parametrize("step", [1, 4, 32])
def test_every_tile_has_a_legal_size_and_every_cell_one_tile(tmp_path, monkeypatch, step):
    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    anysize.export(NETWORKS["padded, strided"]().eval(), path, head="cam", size=64, verify=False)
    graph = Graph(load_model(path, weights="in_file"))
    assert map_geometry(graph, "map") is not None
    monkeypatch.setattr(tiles_module, "_MOST_BYTES", 0)
    legal = SizeRange(Size(96, 64), None, Steps(step), Steps(step))
    size = Size(480, 352)
    parts = tiles(graph, "map", size, legal)
    shape = anysize.surgery.infer_shapes(graph, size)["map"][2:]
    count = np.zeros(shape, int)
    for row, column in parts:
        sides = (one.pixels.stop - one.pixels.start for one in (row, column))
        assert Size(*sides) in legal
        assert row.inner.stop - row.inner.start == row.cells.stop - row.cells.start
        count[row.cells, column.cells] += 1
    assert (count == 1).all()
    assert len(parts) > 4


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RUSAGE_CHILDREN"), reason="needs the resource module")
def test_twelve_megapixels_fit_into_500_megabytes(tmp_path):
    torch.manual_seed(0)
    path, image, out = (tmp_path / name for name in ("net.onnx", "image.jpg", "out.png"))
    module = nn.Sequential(
        conv(3, 16, kernel_size=3, stride=2, padding=1), conv(16, 32, kernel_size=3, padding=1),
        nn.MaxPool2d(2), conv(32, 32, kernel_size=3, padding=1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5),
    ).eval()  # fmt: skip
    anysize.export(module, path, head="cam", size=64, verify=False)
    values = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(values).resize((4000, 3000)).save(image)
    code = (
        "import resource, sys\nfrom anysize.cli import main\n"
        f"code = main(['heatmap', {str(path)!r}, {str(image)!r}, '-o', {str(out)!r}])\n"
        "for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):\n"
        "    print(resource.getrusage(who).ru_maxrss // 1024)\nsys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    own, worker = (int(line) for line in done.stdout.splitlines()[-2:])
    assert own < 500
    assert worker < 500
    assert "tiles" in done.stderr
    print(f"{own} MiB, and {worker} MiB in the runtime's process")
