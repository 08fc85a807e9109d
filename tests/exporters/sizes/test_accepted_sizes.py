"""A file takes no size that its module refuses, and says so."""

import re

import pytest
import torch
from torch import nn

from anysize.errors import ExportError, UsageError
from anysize.exporters import ExportSpec, export_module
from anysize.sizes import MAX_SIDE, Size, SizeRange, Steps


class Positions(nn.Module):
    """Adds an embedding to each of 8×8 tokens."""

    def __init__(self, *, cells: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Conv2d(3, 8, 4, stride=4)
        self.positions = nn.Parameter(torch.randn(1, cells, 8))
        self.classifier = nn.Linear(8, 5)

    def forward(self, x):
        x = self.tokens(x).flatten(2).transpose(1, 2) + self.positions
        return self.classifier(x.mean(1))


class Strict(nn.Module):
    """Checks the size of its image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x):
        if x.shape[2] < 12 or x.shape[3] < 10:
            raise ValueError("too small for this network")
        return self.classifier(self.body(x).relu().mean((2, 3)))


def exported(module: nn.Module, **bounds: Size):
    torch.manual_seed(0)
    spec = ExportSpec(name="net", head=None, channels=3, classes=5, size=Size(32, 32), **bounds)
    return export_module(module.eval(), spec)


def test_a_module_that_takes_a_range_of_sizes_gives_a_file_of_that_range():
    result = exported(Positions())
    assert result.sizes == SizeRange(Size(32, 32), Size(35, 35))
    assert result.metadata.max_size == Size(35, 35)


@pytest.mark.parametrize("size", [(31, 32), (32, 31), (36, 32), (32, 36), (64, 64), (16, 64)])
def test_the_file_refuses_what_lies_outside_that_range(size):
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(
        exported(Positions()).loaded().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    with pytest.raises(Exception, match=r"invalid|Invalid|incompatible|failed|broadcast"):
        session.run(None, {"input": np.zeros((1, 3, *size), np.float32)})


def test_a_module_that_is_stricter_than_its_shapes_raises_the_smallest_size():
    assert exported(Strict()).sizes == SizeRange(Size(12, 10))


def test_sizes_that_broadcasting_lets_in_far_below_are_no_part_of_the_range():
    class Broadcast(Positions):
        """Takes one cell, too, which broadcasts against its 8×8 weights."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, self.tokens.out_channels, 8, 8))

        def forward(self, x):
            return torch.einsum("bchw,ochw->bo", self.tokens(x), self.weight)

    assert exported(Broadcast()).sizes == SizeRange(Size(32, 32), Size(35, 35))


class Area(Positions):
    """Takes images by what both sides are together."""

    def forward(self, x):
        if not 20 <= x.shape[2] + x.shape[3] <= 80:
            raise ValueError("images of 20 to 80 pixels around the corner")
        return self.classifier(self.tokens(x).mean((2, 3)))


def test_of_sizes_that_are_no_range_the_file_takes_the_largest_square_and_says_so():
    result = exported(Area())
    assert result.sizes == SizeRange(Size(10, 10), Size(40, 40))
    assert result.metadata.asked_sizes == result.sizes
    assert result.others.startswith("takes images of 32x32 but not of ")
    assert "images of 20 to 80" in result.others
    assert re.search(r"\(test_accepted_sizes\.py:\d+\)", result.others)


def test_of_sizes_that_are_no_range_the_user_may_choose_others():
    low, top = Size(16, 4), Size(32, 48)
    result = exported(Area(), min_size=low, max_size=top)
    assert result.sizes == SizeRange(low, top)
    with pytest.raises(
        UsageError, match=r"max size 48x48: .* no range that large: it takes images"
    ):
        exported(Area(), max_size=Size(48, 48))


def test_sizes_of_which_no_rectangle_is_taken_are_refused_in_the_modules_own_words():
    class Squarish(Positions):
        def forward(self, x):
            if abs(x.shape[2] - x.shape[3]) > 8:
                raise ValueError("no image that is so wide or so high")
            return self.classifier(self.tokens(x).mean((2, 3)))

    with pytest.raises(
        ExportError,
        match=r"takes images of 32x32 but not of .*: no image that is .*; the sizes .* no range",
    ):
        exported(Squarish())


class Depth(Strict):
    """Moves blocks of 4×4 pixels into channels."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(48, 8, 3, padding=1)

    def forward(self, x):
        x = torch.nn.functional.pixel_unshuffle(x, 4)
        return self.classifier(self.body(x).relu().mean((2, 3)))


class Windows(Strict):
    """Checks by itself that its map is a multiple of the window."""

    def forward(self, x):
        if x.shape[2] % 7 or x.shape[3] % 7:
            raise ValueError("expected multiples of 7")
        return self.classifier(self.body(x).relu().mean((2, 3)))


class LargeWindows(Strict):
    """Checks by itself that windows fill the last of its maps."""

    def forward(self, x):
        if x.shape[2] % 128 or x.shape[3] % 128:
            raise ValueError("expected windows of 8x8 cells at stride 16")
        return self.classifier(self.body(x).relu().mean((2, 3)))


class Even(Strict):
    """A strided shortcut beside a pooling that rounds otherwise."""

    def __init__(self):
        super().__init__()
        self.short = nn.Conv2d(8, 8, 1, 2)

    def forward(self, x):
        x = self.body(x).relu()
        pooled = torch.nn.functional.max_pool2d(torch.nn.functional.pad(x, (0, 1, 0, 1)), 3, 2)
        return self.classifier((pooled + self.short(x)).mean((2, 3)))


SETS = {
    "space to depth": (Depth, 32, SizeRange(Size(4, 4), None, Steps(4), Steps(4))),
    "its own check": (Windows, 28, SizeRange(Size(7, 7), None, Steps(7), Steps(7))),
    "windows at a large stride": (
        LargeWindows,
        128,
        SizeRange(Size(128, 128), None, Steps(128), Steps(128)),
    ),
    "maps that meet": (Even, 32, SizeRange(Size(2, 2), None, Steps(2), Steps(2))),
}


def of_size(module, side, **options):
    torch.manual_seed(0)
    spec = ExportSpec("net", head=None, channels=3, classes=5, size=Size(side, side), **options)
    return export_module(module.eval(), spec)


@pytest.mark.parametrize(("kind", "side", "sizes"), SETS.values(), ids=SETS)
def test_the_sizes_of_a_file_are_the_set_that_its_module_takes(kind, side, sizes):
    import numpy as np
    import onnxruntime

    module = kind().eval()
    done = of_size(module, side)
    assert done.sizes == done.metadata.sizes == sizes
    session = onnxruntime.InferenceSession(
        done.loaded().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for height, width in ((28, 28), (84, 56), (32, 32), (33, 28), (28, 30), (2, 2), (14, 7)):
        x = np.random.default_rng(0).standard_normal((1, 3, height, width), dtype=np.float32)
        if Size(height, width) in sizes:
            with torch.inference_mode():
                expected = module(torch.from_numpy(x)).numpy()
            (got,) = session.run(None, {"input": x})
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
        else:
            with pytest.raises(Exception, match=r"[Ii]nvalid|incompatible|failed|broadcast"):
                session.run(None, {"input": x})


def test_a_resized_image_has_any_size_whatever_the_module_takes():
    assert of_size(Even(), 32, to="resize").sizes == SizeRange(Size(1, 1))


def test_declared_bounds_are_moved_to_sizes_of_the_set():
    done = of_size(Depth(), 32, min_size=Size(9, 9), max_size=Size(40, 63))
    assert done.sizes == SizeRange(Size(12, 12), Size(40, 60), Steps(4), Steps(4))


class Line(nn.Module):
    """Reads a line of one height, column by column, the batch second."""

    def __init__(self):
        super().__init__()
        self.body, self.classifier = nn.Conv2d(3, 8, (16, 3), padding=(0, 1)), nn.Linear(8, 5)

    def forward(self, x):
        x = self.body(x).relu()
        if x.shape[2] != 1:
            raise ValueError("lines are 16 pixels high")
        return self.classifier(x.squeeze(2).permute(2, 0, 1))


def dims(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_an_axis_of_one_length_is_a_number_and_the_others_are_free():
    done = of_size(Line(), 16)
    assert done.sizes == SizeRange(Size(16, 1), Size(16, MAX_SIDE))
    assert dims(done.model.graph.input[0]) == ["batch", 3, 16, "width"]
    assert dims(done.model.graph.output[0]) == ["map_width", "batch", 5]
    assert list(done.held) == ["height"]
    assert "lines are 16 pixels high (test_accepted_sizes.py:" in done.held["height"]


def test_the_command_says_which_axes_are_free(tmp_path):
    import anysize

    done = anysize.export(Line().eval(), tmp_path / "line.onnx", size="16x24")
    (note,) = done.notes
    assert "free axes: batch, width; height is fixed at 16 (lines are 16 pixels high" in note
    assert done.report is not None


class Several(nn.Module):
    """Hands out a vector, columns, cells, and something that follows nothing."""

    def __init__(self):
        super().__init__()
        self.body, self.table = nn.Conv2d(3, 4, 3, 2, 1), nn.Parameter(torch.rand(2, 3))

    def forward(self, x):
        x = self.body(x)
        return x.mean((2, 3)), x.mean(2), x, x.flatten(2), x.permute(0, 2, 3, 1), self.table * 2


def test_each_axis_of_the_outputs_is_declared_as_it_follows_the_image():
    names = ("a", "b", "c", "d", "e", "f")
    done = of_size(Several(), 32, output_names=names)
    assert [dims(output) for output in done.model.graph.output] == [
        ["batch", 4],
        ["batch", 4, "b_map_width"],
        ["batch", 4, "map_height", "map_width"],
        ["batch", 4, "d_cells"],
        ["batch", "map_height", "map_width", 4],
        [2, 3],
    ]
