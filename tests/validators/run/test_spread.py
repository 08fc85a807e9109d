"""Right files are not red by rounding alone, and wrong ones are no greener for it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import anysize
from anysize.sizes import Size
from anysize.validators import Verdict, validate_model
from anysize.validators.inputs import saturated_outputs
from anysize.validators.references import Perturbed
from anysize.validators.references.eager import ModuleReference
from anysize.validators.references.graph.model import GraphPair, OnnxReference

SIZES = (Size(8, 8), Size(9, 10))
IMAGES = {"input": np.random.default_rng(3).normal(size=(2, 3, 8, 8)).astype(np.float32)}


class Cancelling(nn.Module):
    """A sum that is far larger than what is left of it: 250 float32 steps are lost."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.linear = nn.Linear(6, 4)

    def forward(self, images):
        scores = self.linear(torch.relu(self.conv(images)).mean((2, 3)))
        return (scores + 500.0) * 1.1 - 550.0


class Lucky:
    """The module, whose one float32 answer happens to be rounded at the end alone."""

    kind, output_names = "module", None

    def __init__(self, module):
        self._reference, self.name = ModuleReference(module), "lucky"
        self.draws = 0

    def run(self, inputs, precision):
        if precision == "float32":
            (answer,) = self._reference.run(inputs, "float64")
            return (answer.astype(np.float32),)
        self.draws += isinstance(precision, Perturbed)
        return self._reference.run(inputs, precision)

    def close(self):
        self._reference.close()


@pytest.fixture
def cancelling(tmp_path):
    def write(scale=1.0):
        module = Cancelling().eval()
        if scale != 1.0:
            with torch.no_grad():
                module.linear.weight *= scale
        path = tmp_path / "cancelling.onnx"
        anysize.export(module, path, size=Size(8, 8), verify=False)
        return path

    return write


def report(path, reference):
    return validate_model(path, reference, sizes=SIZES, amplified=False)


def test_a_right_file_is_green_though_the_reference_happened_to_round_well(cancelling):
    reference = Lucky(Cancelling().eval())
    found = report(cancelling(), reference)
    assert {cell.verdict for cell in found.cells} == {Verdict.PASS}
    assert reference.draws, "nothing was drawn: the case is too easy"
    first = found.cells[0].outputs[0].deviation
    assert 5e-6 < first.reference_error < first.budget <= 8.001 * first.reference_error


def test_the_same_file_with_a_thousandth_added_is_red(cancelling):
    found = report(cancelling(scale=1.005), Lucky(Cancelling().eval()))
    assert {cell.verdict for cell in found.cells} == {Verdict.MISMATCH}


def test_nothing_is_drawn_where_the_one_answer_tells(cancelling):
    class Undrawn(ModuleReference):
        def run(self, inputs, precision):
            assert not isinstance(precision, Perturbed)
            return super().run(inputs, precision)

    assert report(cancelling(), Undrawn(Cancelling().eval())).ok


def test_a_hopeless_answer_is_not_drawn_for_long(cancelling):
    reference = Lucky(Cancelling().eval())
    assert report(cancelling(scale=30.0), reference).exit_code == 1
    assert reference.draws == 4 * 2 * len(SIZES)


@pytest.mark.parametrize("kind", ["module", "graph"])
def test_draws_round_otherwise_by_a_few_steps(kind, cancelling):
    path = cancelling()
    module = Cancelling().eval()
    before = [p.clone() for p in module.parameters()]
    if kind == "module":
        reference = ModuleReference(module)
    else:
        reference = OnnxReference(GraphPair.of_file(path))
    (precise,) = reference.run(IMAGES, "float64")
    answers = [reference.run(IMAGES, Perturbed(draw))[0] for draw in range(16)]
    reference.close()
    steps = np.array([a - precise for a in answers]) / (550.0 * 2**-23)
    assert all(a.dtype == np.float32 for a in answers)
    assert len({a.tobytes() for a in answers}) == 16
    assert 0.3 < np.sqrt((steps**2).mean()) < 3.0
    assert abs(steps.mean()) < 0.5, "the draws lean to one side"
    assert all(map(torch.equal, before, module.parameters()))


def test_a_draw_is_the_same_each_time():
    reference = ModuleReference(Cancelling().eval())
    (first,), (again,) = (reference.run(IMAGES, Perturbed(7)) for _ in range(2))
    assert np.array_equal(first, again)


class InPlace(nn.Module):
    """Works in place, on views, and on numbers that are whole."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.linear = nn.Linear(6, 4)

    def forward(self, images):
        maps = self.conv(images).contiguous()
        maps += 1.0
        maps[:, :3].mul_(2.0)
        rows = torch.arange(maps.shape[2], dtype=torch.float32).floor().long()
        return self.linear(maps[:, :, rows].mean((2, 3)))


def test_draws_follow_what_works_in_place_and_leave_whole_numbers():
    module = InPlace().eval()
    reference = ModuleReference(module)
    (precise,) = reference.run(IMAGES, "float64")
    for draw in range(4):
        (answer,) = reference.run(IMAGES, Perturbed(draw))
        assert 0.0 < np.abs(answer - precise).max() < 32 * 2**-23 * np.abs(precise).max()
    (after,) = reference.run(IMAGES, "float64")
    assert np.array_equal(precise, after)


def tailed(*operators):
    nodes, tensor = [], "input"
    for place, operator in enumerate(operators):
        nodes.append(helper.make_node(operator, [tensor], [f"t{place}"]))
        tensor = f"t{place}"
    nodes[-1].output[0] = "out"
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"])
        for name in ("input", "out")
    ]
    return helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]))


@pytest.mark.parametrize(
    ("operators", "saturates"),
    [
        (("Relu", "Sigmoid"), True),
        (("Softmax",), True),
        (("Sigmoid", "GlobalAveragePool", "Identity"), True),
        (("Sigmoid", "Relu"), False),
        (("LogSoftmax",), False),
        (("Relu",), False),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_outputs_that_saturate_are_found(operators, saturates):
    assert bool(saturated_outputs(tailed(*operators))) is saturates


class Unlikely(nn.Module):
    """A probability near 3e-4 (or 1e-9), as of one class that is not there."""

    def __init__(self, bias=-8.0):
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.linear = nn.Linear(6, 1)
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, images):
        return torch.sigmoid(self.linear(torch.relu(self.conv(images)).mean((2, 3))))


def unlikely(tmp_path, change=None, bias=-8.0):
    path = tmp_path / "unlikely.onnx"
    anysize.export(Unlikely(bias).eval(), path, size=Size(8, 8), verify=False)
    if change:
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)
    return validate_model(path, Unlikely(bias).eval(), sizes=SIZES, amplified=False)


def plus(value):
    """Add to the probability what its rounding as a part of 1 may add."""

    def change(model):
        node = model.graph.node[-1]
        output, node.output[0] = node.output[0], "p"
        model.graph.initializer.append(helper.make_tensor("v", TensorProto.FLOAT, [1], [value]))
        model.graph.node.append(helper.make_node("Add", ["p", "v"], ["q"]))
        model.graph.node.append(helper.make_node("Identity", ["q"], [output]))

    return change


def test_a_probability_is_rounded_as_a_part_of_one(tmp_path):
    found = unlikely(tmp_path)
    assert {cell.verdict for cell in found.cells} == {Verdict.PASS}
    deviation = found.cells[0].outputs[0].deviation
    assert deviation.budget == pytest.approx(4 * 2.0**-23 / deviation.scale)
    assert deviation.scale < 1e-3


def test_a_probability_that_is_wrong_in_its_third_digit_is_red(tmp_path):
    def change(model):
        bias = next(t for t in model.graph.initializer if list(t.dims) == [1])
        bias.raw_data = np.float32([-7.997]).tobytes()

    found = unlikely(tmp_path, change)
    assert {cell.verdict for cell in found.cells} == {Verdict.MISMATCH}


def test_a_probability_that_is_all_but_none_proves_nothing(tmp_path):
    found = unlikely(tmp_path, bias=-20.0)
    assert {cell.verdict for cell in found.cells} == {Verdict.VACUOUS}
    assert "too little of the 1 at which it saturates" in found.cells[0].message


def test_only_the_file_s_own_probabilities_are_parts_of_one(tmp_path):
    found = unlikely(tmp_path, plus(1e-7))
    assert {cell.verdict for cell in found.cells} == {Verdict.MISMATCH}
