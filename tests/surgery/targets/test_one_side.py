"""A file of which a layer takes one side alone is freed along the other, and says so."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from anysize.errors import DeclinedError
from anysize.sizes import Size
from anysize.surgery import find_target, read_metadata, rewrite
from anysize.verbs.rewrite import rewrite as rewrite_file

SIZE = Size(32, 64)


class Line(nn.Module):
    """A text line: one row of columns, each with scores of its own."""

    def __init__(self, side: int = 2, spelling: str = "squeeze") -> None:
        super().__init__()
        torch.manual_seed(3)
        self.side, self.spelling = side, spelling
        self.first = nn.Conv2d(1, 6, 3, 2, 1)
        self.second = nn.Conv2d(6, 8, (16, 3) if side == 2 else (3, 32), 1, (0, 1)[:: 5 - 2 * side])
        self.scores = nn.Linear(8, 5)

    def forward(self, image):
        fmap = torch.relu(self.second(torch.relu(self.first(image))))
        if self.spelling == "squeeze":
            return self.scores(fmap.squeeze(self.side).permute(0, 2, 1))
        if self.spelling == "time first":
            return self.scores(fmap.squeeze(self.side).permute(2, 0, 1))
        n, c, h, w = fmap.shape
        return self.scores(fmap.reshape(n, c * h, w).permute(2, 0, 1)).log_softmax(2)


class Columns(nn.Module):
    """Rows of the map are features of its columns, as in a recurrent text recogniser."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.scores = nn.Conv2d(1, 6, 3, 4, 1), nn.Linear(48, 5)

    def forward(self, image):
        fmap = torch.relu(self.conv(image))
        n, c, h, w = fmap.shape
        return self.scores(fmap.permute(0, 3, 1, 2).reshape(n, w, c * h))


def exported(network, size=SIZE):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torch.zeros(1, 1, size.height, size.width)
        torch.onnx.export(network.eval(), (image,), buffer, dynamo=False)
    return onnx.load_from_string(buffer.getvalue())


NETWORKS = {
    "squeezed": (Line(), "height"),
    "batch on axis 1": (Line(spelling="time first"), "height"),
    "reshaped": (Line(spelling="reshape"), "height"),
    "columns": (Columns(), "height"),
    "one column": (Line(side=3), "width"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_side_that_no_layer_holds_is_free(kit, name):
    network, fixed = NETWORKS[name]
    model = exported(network)
    if name == "squeezed":
        assert find_target(model) == "dynamic"
    done = rewrite(model, to="dynamic")
    (note,) = done.notes
    assert note.startswith(f"{fixed} stays {getattr(SIZE, fixed)}: ")
    sizes = read_metadata(done.model).sizes
    assert sizes.fixed_sides == (fixed,)
    for batch, other in ((1, 16), (3, 64), (2, 150)):
        size = Size(SIZE.height, other) if fixed == "height" else Size(other, SIZE.width)
        assert size in sizes
        images = kit.images(batch, 1, size.height, size.width)
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        (got,) = kit.run(done.model, images)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=3e-6 * np.abs(expected).max())
    beyond = Size(2 * SIZE.height, 64) if fixed == "height" else Size(32, 2 * SIZE.width)
    assert beyond not in sizes
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        kit.run(done.model, kit.images(1, 1, beyond.height, beyond.width))


def test_the_command_says_what_is_free_and_validate_agrees(tmp_path):
    from anysize import validate

    onnx.save(exported(Line()), tmp_path / "line.onnx")
    done = rewrite_file(tmp_path / "line.onnx", tmp_path / "any.onnx")
    assert "batch and width freed (--to dynamic), sizes height 32, width 1 and up" in done.summary()
    assert "height stays 32: node '/Squeeze' cannot take an image of 64x64" in done.notes[0]
    report = validate(
        tmp_path / "any.onnx", tmp_path / "line.onnx", runtimes=["ort-cpu"], sizes="auto"
    )
    assert report.exit_code == 0
    assert {cell.size.height for cell in report.cells if cell.verdict == "pass"} == {32}
    assert len({cell.size for cell in report.cells if cell.verdict == "pass"}) > 1


def test_what_holds_both_sides_is_declined(kit):
    head = "f = Flatten <axis = 2> (fmap) scores = MatMul (f, w)"
    model = kit.make(
        kit.BACKBONE + head,
        weights=kit.BACKBONE_WEIGHTS | {"w": (64, 5)},
        outputs="float[4, 5] scores",
    )
    with pytest.raises(DeclinedError):
        rewrite(model, to="dynamic")
