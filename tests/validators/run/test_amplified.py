"""One case of each validation has other, brighter images: what is right on one kind is no proof."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from torch import nn

from anysize.sizes import Size
from anysize.validators import Verdict, validate_model
from anysize.validators.inputs.cases import Case
from anysize.validators.inputs.images import AMPLIFICATION
from anysize.validators.inputs.signature import GraphInputs, make_inputs

SIZES = (Size(8, 8), Size(9, 10), Size(11, 11))
SPEC = GraphInputs("input", 3, seed=0, vacuity_seed=1)


def clipped(graph, image):
    """Cut pixels that no image of the usual brightness has."""
    return graph.add("Clip", image, graph.constant(-6.0), graph.constant(6.0))


def test_bright_images_are_brighter_and_others():
    usual, bright = (
        make_inputs(Case(Size(9, 10), 1, is_amplified=other), SPEC, int(other))["input"]
        for other in (False, True)
    )
    assert bright.dtype == np.float32
    assert bright.std() > AMPLIFICATION / 2 * usual.std()
    assert abs(np.corrcoef(bright.ravel(), usual.ravel())[0, 1]) < 0.9


def test_a_value_that_is_limited_is_found_at_one_of_the_sizes(tiny, tmp_path):
    path = tiny.fc_file(tiny.fc(), image=clipped)
    report = validate_model(path, tiny.fc(), sizes=SIZES, bisect=tmp_path)
    (wrong,) = (cell for cell in report.cells if not cell.is_good)
    assert (wrong.size, wrong.batch, wrong.verdict) == (Size(9, 10), 1, Verdict.MISMATCH)
    assert wrong.is_bright
    assert "on other images, 8 times as bright: output 'logits' at" in wrong.message
    # The diagnosis is made, and can be repeated, on the images that are wrong.
    assert wrong.diagnosis.text.startswith("the graph is wrong, not the runtime")
    given = dict(np.load(wrong.diagnosis.inputs))
    again = validate_model(path, tiny.fc(), inputs=given)
    assert [cell.verdict for cell in again.cells] == [Verdict.MISMATCH]


def test_a_report_says_that_bright_images_were_left_out(tiny):
    path = tiny.fc_file(tiny.fc(), image=clipped)
    report = validate_model(path, tiny.fc(), sizes=SIZES, amplified=False)
    assert report.ok
    assert report.notes == ("no case has brighter images, by request",)


def test_bright_scores_need_not_vary(tiny):
    report = validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), sizes=SIZES)
    assert report.ok
    assert len(report.cells) == 2 * len(SIZES)


class Unsure(nn.Module):
    """Loses digits on bright images alone, as a network does that amplifies rounding errors."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        large = 1e4 * (x.abs().amax() / 32) ** 8
        return (self.module(x) + large) - large


def test_bright_images_say_nothing_of_a_reference_that_is_unsure_of_them(tiny):
    path = tiny.fc_file(tiny.fc(), image=clipped)
    sure, unsure = (
        validate_model(path, module.eval(), sizes=SIZES)
        for module in (tiny.fc(), Unsure(tiny.fc()))
    )
    assert not sure.ok
    assert unsure.ok
    assert not any(cell.is_bright for cell in unsure.cells)
    (note,) = unsure.notes
    assert note.startswith("no case has brighter images: the reference itself is less sure")


class Masked(nn.Module):
    """TinyFc whose largest score is masked."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        scores = self.inner(images)
        return scores.masked_fill(scores == scores.amax(1, keepdim=True), -float("inf"))


def test_a_mask_of_infinities_leaves_the_bright_case_as_it_is(tiny):
    def masked(graph, scores):
        largest = graph.add("ReduceMax", scores, axes=[1])
        mask = graph.add("Equal", scores, largest)
        return graph.add("Where", mask, graph.constant(-np.inf), scores)

    path = tiny.fc_file(tiny.fc(), tail=masked)
    assert validate_model(path, Masked(tiny.fc()).eval(), sizes=SIZES).ok
    path = tiny.fc_file(tiny.fc(), tail=masked, image=clipped)
    report = validate_model(path, Masked(tiny.fc()).eval(), sizes=SIZES)
    assert [cell.is_bright for cell in report.cells if not cell.is_good] == [True]


def test_a_reference_that_rejects_everything_has_no_bright_case(tiny):
    path = tiny.fc_file(tiny.fc())
    report = validate_model(path, tiny.fc(), sizes=[Size(7, 7)])
    assert {cell.verdict for cell in report.cells} == {Verdict.REJECTED}


@pytest.mark.parametrize("claims", [False, True], ids=["silent", "says float16"])
def test_a_file_is_not_judged_as_half_precision_for_saying_so(tiny, claims):
    def scaled(graph, logits):
        return graph.add("Mul", logits, graph.constant(1.0001))

    path = tiny.fc_file(tiny.fc(), tail=scaled)
    if claims:
        model = onnx.load(path)
        model.metadata_props.add(key="anysize.precision", value="float16")
        unread = onnx.numpy_helper.from_array(np.zeros(10**4, np.float16), "unread")
        model.graph.initializer.append(unread)
        onnx.save(model, path)
    report = validate_model(path, tiny.fc(), sizes=SIZES)
    assert {cell.verdict for cell in report.cells} == {Verdict.MISMATCH}
    assert report.runtimes[0].profile == "strict"
