"""`--dynamic` frees exactly the axes that it names, and says what holds the others."""

from __future__ import annotations

import math

import onnx
import pytest
import torch
from torch import nn

import anysize
from anysize.errors import ExportError, UsageError
from anysize.sizes import MAX_SIDE, Size, SizeRange
from anysize.surgery import read_metadata


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 5)

    def between(self, x):
        return x

    def forward(self, x):
        return self.fc(self.between(torch.relu(self.conv(x))).mean((2, 3)))


class Squares(Net):
    """Lays its cells out as a square, as old transformers do."""

    def between(self, x):
        side = int(math.sqrt(x.shape[2] * x.shape[3]))
        return x.flatten(2).view(*x.shape[:2], side, -1)[:, :, 1:] * side


class Line(Net):
    """Takes lines of text of one height, and of any length."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(1, 8, 12, 1))

    def forward(self, x):
        if x.shape[2] != 24:
            raise ValueError("lines are 24 rows high")
        return self.fc((torch.relu(self.conv(x)) * self.rows).mean((2, 3)))


def shapes(path):
    graph = onnx.load(path).graph
    return [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ]


@pytest.mark.parametrize(
    ("axes", "image", "sizes"),
    [
        (("batch", "height", "width"), ["batch", 3, "height", "width"], SizeRange(Size(1, 1))),
        (("height", "width"), [1, 3, "height", "width"], SizeRange(Size(1, 1))),
        (("batch", "width"), ["batch", 3, 24, "width"], SizeRange(Size(24, 1), Size(24, MAX_SIDE))),
        (("height",), [1, 3, "height", 24], SizeRange(Size(1, 24), Size(MAX_SIDE, 24))),
        (("batch",), ["batch", 3, 24, 24], SizeRange(Size(24, 24), Size(24, 24))),
    ],
)
def test_the_axes_that_are_asked_for_are_free_and_no_others(axes, image, sizes, tmp_path):
    path, module = tmp_path / "net.onnx", Net().eval()
    done = anysize.export(module, path, size=24, dynamic=axes)
    assert done.sizes == sizes
    assert shapes(path) == [image, [image[0], 5]]
    held = [axis for axis in ("batch", "height", "width") if axis not in axes]
    assert sum(note.count("(not asked for)") for note in done.notes) == len(held)
    report = anysize.validate(path, module)
    assert report.ok  # nothing is required of it that was not asked for
    assert {cell.batch for cell in report.cells} == ({1, 2} if "batch" in axes else {1})
    assert any(cell.verdict == "pass" for cell in report.cells)


def test_a_batch_that_was_not_asked_for_is_required_once_it_is_free(tmp_path):
    path, module = tmp_path / "net.onnx", Net().eval()
    anysize.export(module, path, size=24, dynamic=("height", "width"), verify=False)
    assert read_metadata(onnx.load(path)).asked_batch == 1
    freed = onnx.load(path)
    freed.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(freed, path)
    report = anysize.validate(path, module, sizes=["24x24"])
    assert {cell.batch for cell in report.cells} == {1, 2}


def test_an_axis_that_the_module_holds_is_refused_where_it_is_asked_for(tmp_path):
    path, module = tmp_path / "line.onnx", Line().eval()
    with pytest.raises(
        ExportError, match=r"--dynamic height: it is fixed at 24 \(lines are 24 rows"
    ):
        anysize.export(module, path, size="24x40", dynamic=("height", "width"))
    assert anysize.export(module, path, size="24x40", dynamic=("batch", "width")).report.ok
    assert shapes(path)[0] == ["batch", 3, 24, "width"]


def test_what_takes_squares_alone_says_how_it_can_be_exported(tmp_path):
    path, module = tmp_path / "squares.onnx", Squares().eval()
    said = "for a file that takes 24x24 alone, give --dynamic batch; for one that resizes any image"
    with pytest.raises(ExportError, match=said):
        anysize.export(module, path, size=24)
    assert anysize.export(module, path, size=24, dynamic=("batch",)).report.ok
    assert anysize.export(module, path, size=24, head="resize").report.ok


@pytest.mark.parametrize(("axes", "found"), [("depth", "'depth'"), ("", "''"), ((), "no axis")])
def test_what_is_no_axis_is_a_usage_error(axes, found, tmp_path):
    with pytest.raises(
        UsageError, match=f"--dynamic: {found}, expected some of batch,height,width"
    ):
        anysize.export(Net().eval(), tmp_path / "net.onnx", dynamic=axes)


def test_bounds_hold_for_the_sides_that_are_asked_for(tmp_path):
    path, module = tmp_path / "net.onnx", Net().eval()
    given = {"size": 24, "min_size": 16, "max_size": 64}
    done = anysize.export(module, path, dynamic=("batch", "height"), **given)
    assert done.sizes == SizeRange(Size(16, 24), Size(64, 24))
