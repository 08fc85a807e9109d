"""A module takes more than the image: each input is described, named and follows what it shares."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

import anysize
from anysize.errors import UsageError
from anysize.exporters.inputs import input_shape, named_inputs
from anysize.sizes import Size

ort.set_default_logger_severity(4)


class Beside(nn.Module):
    """An image and measurements of what is on it."""

    channels = 3

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(12, 5)

    def forward(self, picture, facts):
        pooled = self.conv(picture).relu().mean((2, 3))
        return self.fc(torch.cat([pooled, facts], 1))


class FactsFirst(Beside):
    def forward(self, facts, picture):
        return super().forward(picture, facts)


class Pair(nn.Module):
    """Two views of one scene, and a weight for the second that may be left out."""

    channels = 3

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(6, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, left, right, weight=1.0):
        x = torch.cat([left, right * weight], 1)
        n, c, h, w = x.shape
        return self.fc(self.conv(x.view(n, c, h, w)).relu().sum((2, 3)) / (h * w))


def declared(path):
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in onnx.load(path).graph.input
    }


def compare(path, module, *shapes):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(0)
    inputs = [draw.standard_normal(shape, dtype=np.float32) for shape in shapes]
    names = [value.name for value in session.get_inputs()]
    (got,) = session.run(None, dict(zip(names, inputs, strict=True)))
    with torch.inference_mode():
        expected = module(*map(torch.from_numpy, inputs)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_vector_beside_the_image_follows_the_batch(tmp_path):
    module, path = Beside().eval(), tmp_path / "out.onnx"
    done = anysize.export(module, path, size="32x32", inputs={"facts": (4,)})
    assert declared(path) == {"input": ["batch", 3, "height", "width"], "facts": ["batch", 4]}
    assert done.report is not None
    compare(path, module, (3, 3, 40, 31), (3, 4))


def test_the_image_may_stand_behind_the_others(tmp_path):
    module, path = FactsFirst().eval(), tmp_path / "out.onnx"
    anysize.export(module, path, size="32x32", inputs={"facts": (4,)})
    assert list(declared(path)) == ["facts", "input"]
    compare(path, module, (2, 4), (2, 3, 21, 50))


def test_a_second_image_follows_the_sides_of_the_first(tmp_path):
    module, path = Pair().eval(), tmp_path / "out.onnx"
    anysize.export(module, path, size="24x24", inputs={"right": (3, "height", "width")})
    assert declared(path)["right"] == ["batch", 3, "height", "width"]
    compare(path, module, (2, 3, 30, 17), (2, 3, 30, 17))


@pytest.mark.parametrize("as_mapping", [False, True], ids=["sequence", "mapping"])
def test_example_inputs_say_it_all(tmp_path, as_mapping):
    module, path = Pair().eval(), tmp_path / "out.onnx"
    examples = {"left": torch.zeros(1, 3, 24, 28), "right": torch.zeros(1, 3, 24, 28)}
    given = examples if as_mapping else tuple(examples.values())
    done = anysize.export(module, path, example_inputs=given)
    assert declared(path)["right"] == ["batch", 3, "height", "width"]
    assert anysize.inspect(path).training_size == Size(24, 28)
    assert done.report is not None


def test_validate_makes_the_other_inputs_up(tmp_path):
    module, path = Beside().eval(), tmp_path / "out.onnx"
    anysize.export(module, path, size="32x32", inputs={"facts": (4,)}, verify=False)
    assert anysize.validate(path, module).ok
    other = Beside().eval()
    with torch.no_grad():
        other.fc.weight[:, 8:] *= 1.01
    assert not anysize.validate(path, other).ok


def test_inspect_shows_them(tmp_path):
    path = tmp_path / "out.onnx"
    anysize.export(Beside().eval(), path, size="32x32", inputs={"facts": (4,)}, verify=False)
    found = anysize.inspect(path)
    assert found.further_inputs == ("facts (batch, 4)",)
    assert "facts (batch, 4)" in found.to_text()


REFUSED = {
    "missing": (Beside, {}, None, r"takes 'facts' beside the image 'picture'; give --input facts:"),
    "unknown": (
        Beside,
        {"fact": (4,)},
        None,
        r"no input 'fact'; its inputs are 'picture', 'facts'",
    ),
    "no image": (Beside, {"picture": (3,), "facts": (4,)}, None, "one is the image"),
    "given twice": (Beside, {"picture": (3,)}, "picture", "'picture' is the image"),
    "wrong image": (Beside, {}, "facts", "takes 'picture' beside the image 'facts'"),
    "image behind an image": (
        Pair,
        {"left": (3, "height", "width")},
        "right",
        "'left' has four axes",
    ),
}


@pytest.mark.parametrize(("kind", "shapes", "image", "said"), REFUSED.values(), ids=REFUSED)
def test_inputs_that_do_not_fit_are_refused_by_name(kind, shapes, image, said):
    with pytest.raises(UsageError, match=said):
        named_inputs(kind().eval(), shapes, image)


def test_what_may_be_left_out_need_not_be_given():
    (right,) = named_inputs(Pair(), {"right": (3, "height", "width")})
    assert (right.name, right.is_before) == ("right", False)


def test_a_shape_is_read_as_the_command_line_has_it():
    assert input_shape("facts:4") == ("facts", (4,))
    assert input_shape("right:3,height,width") == ("right", (3, "height", "width"))
    assert input_shape("factor:") == ("factor", ())
    for text in ("facts", "facts:x", ":4", "facts:3,-1"):
        with pytest.raises(UsageError, match=r"expected NAME:SHAPE"):
            input_shape(text)


def test_another_head_is_for_modules_that_take_an_image_alone(tmp_path):
    with pytest.raises(UsageError, match=r"take an image alone, and this one takes facts, too"):
        anysize.export(Beside().eval(), tmp_path / "o.onnx", head="fcn", inputs={"facts": (4,)})


def test_examples_of_whole_numbers_are_refused(tmp_path):
    examples = (torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"'facts' is int64 \[1, 4\], expected floats"):
        anysize.export(Beside().eval(), tmp_path / "o.onnx", example_inputs=examples)
