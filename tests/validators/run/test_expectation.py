"""The arbiter is asked where its word can change a verdict, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import anysize
from anysize.sizes import Size
from anysize.validators import Verdict, validate_model
from anysize.validators.references.eager.module import ModuleReference
from anysize.validators.runtimes import OrtCpu, OrtSession

SIZES = (Size(8, 8), Size(8, 9), Size(9, 9))


class Counted(ModuleReference):
    """Remembers what it was asked."""

    def __init__(self, module):
        super().__init__(module)
        self.asked = []

    def run(self, inputs, precision):
        (images,) = inputs.values()
        self.asked.append((precision, images.shape))
        return super().run(inputs, precision)


def in_float64(reference):
    return [shape for precision, shape in reference.asked if precision == "float64"]


def validated(tiny, path, **options):
    reference = Counted(tiny.fc())
    report = validate_model(path, reference, sizes=SIZES, **options)
    return report, reference


def test_a_right_file_needs_no_float64(tiny):
    report, reference = validated(tiny, tiny.fc_file(tiny.fc()))
    assert report.ok
    assert not in_float64(reference)


def test_an_answer_far_from_float32_is_judged_by_float64_at_its_case_alone(tiny):
    def moved(graph, logits):
        rows = graph.add("Gather", graph.add("Shape", "input"), graph.constant(2, np.int64))
        is_wide = graph.add("Greater", rows, graph.constant(8, np.int64))
        factor = graph.add("Where", is_wide, graph.constant(1 + 1e-5), graph.constant(1.0))
        return graph.add("Mul", logits, factor)

    report, reference = validated(tiny, tiny.fc_file(tiny.fc(), tail=moved))
    assert [str(cell.size) for cell in report.cells if not cell.is_good] == ["9x9", "9x9"]
    assert {shape[2:] for shape in in_float64(reference)} == {(9, 9)}


def test_every_wrong_cell_is_judged_in_float64_terms(tiny):
    def moved(graph, logits):
        return graph.add("Mul", logits, graph.constant(np.float32(1 + 1e-5)))

    report, reference = validated(tiny, tiny.fc_file(tiny.fc(), tail=moved))
    assert {cell.verdict for cell in report.cells} == {Verdict.MISMATCH}
    assert len({*in_float64(reference)}) == len(report.cells)
    assert all(cell.outputs[0].deviation.reference_error > 0 for cell in report.cells)


def test_several_images_say_how_a_size_varies(tiny):
    path = tiny.fc_file(tiny.fc())
    single, both = (validated(tiny, path, batches=b, amplified=False)[1] for b in ((1,), (1, 2)))
    runs = [shape for precision, shape in both.asked if precision == "float32"]
    assert len(runs) == 2 * len(SIZES) + 1  # the first case is repeated
    assert len([p for p, _ in single.asked if p == "float32"]) == 2 * len(SIZES) + 1


@pytest.mark.parametrize("sizes", [SIZES, SIZES[:1]])
def test_without_an_arbiter_float64_is_never_asked(tiny, sizes):
    reference = Counted(tiny.fc())
    validate_model(tiny.fc_file(tiny.fc()), reference, sizes=sizes, arbiter="none")
    assert not in_float64(reference)


class Sweeping(OrtCpu):
    """Remembers which images it runs."""

    name = "sweeping"

    def __init__(self):
        self.ran = []

    def load(self, model_path, *, threads):
        session, run = super().load(model_path, threads=threads), OrtSession.run
        session.run = lambda inputs: self.ran.append(inputs["input"].shape) or run(session, inputs)
        return session


def test_a_proof_runs_each_case_once_where_a_validation_returns_to_each_size(tiny):
    path, twice, once = tiny.fc_file(tiny.fc()), Sweeping(), Sweeping()
    for runtime, is_repeated in ((twice, True), (once, False)):
        report = validate_model(
            path, tiny.fc(), runtimes=[runtime], sizes=SIZES, is_repeated=is_repeated
        )
        assert report.ok
        assert len(report.cells) == 2 * len(SIZES)
    bright = 1
    assert len(once.ran) == 2 * len(SIZES) + bright
    assert len(twice.ran) == 3 * len(SIZES) + bright
    down = twice.ran[-len(SIZES) :]
    assert [shape[2:] for shape in down] == [(9, 9), (8, 9), (8, 8)]
    assert {shape[0] for shape in down} == {1, 2}


def test_a_case_that_is_alone_runs_twice(tiny):
    runtime = Sweeping()
    options = {"sizes": SIZES[:1], "batches": 1, "amplified": False}
    assert validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), runtimes=[runtime], **options).ok
    assert len(runtime.ran) == 2


def test_each_batch_is_run_twice_where_there_are_fewer_sizes(tiny):
    runtime = Sweeping()
    options = {"sizes": SIZES[:1], "batches": (1, 2), "amplified": False}
    assert validate_model(tiny.fc_file(tiny.fc()), tiny.fc(), runtimes=[runtime], **options).ok
    assert [shape[0] for shape in runtime.ran] == [1, 2, 2, 1]


def test_a_wrong_graph_is_red_without_being_repeated(tiny):
    def clipped(graph, image):
        return graph.add("Clip", image, graph.constant(-6.0), graph.constant(6.0))

    path = tiny.fc_file(tiny.fc(), image=clipped)  # bright images alone are clipped
    report = validate_model(path, tiny.fc(), sizes=SIZES, is_repeated=False)
    assert [cell.is_bright for cell in report.cells if not cell.is_good] == [True]


class Logarithm(nn.Module):
    """Takes the logarithm of its image, as of a spectrogram."""

    def __init__(self, least=0.0):
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.linear = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 4)
        self.least = least

    def forward(self, images):
        maps = torch.relu(self.conv(torch.log(images + self.least)))
        return self.linear(maps.mean((2, 3)))


def test_a_network_without_a_number_for_negative_pixels_is_compared_on_positive_ones(tmp_path):
    module, path = Logarithm().eval(), tmp_path / "logarithm.onnx"
    assert anysize.export(module, path, size=Size(8, 8)).report.ok
    report = validate_model(path, module, sizes=SIZES)
    assert report.ok
    (note,) = [note for note in report.notes if "negative" in note]
    assert note.startswith("images have pixels of 0.00391 to 1 from 8x8 batch 1 on")
    other = validate_model(path, Logarithm(0.01).eval(), sizes=SIZES)
    assert {cell.verdict for cell in other.cells} == {Verdict.MISMATCH}


def test_a_network_that_has_no_number_for_any_pixel_proves_nothing(tmp_path):
    module, path = Logarithm(-2.0).eval(), tmp_path / "nothing.onnx"
    anysize.export(module, path, size=Size(8, 8), verify=False)
    report = validate_model(path, module, sizes=SIZES)
    assert {cell.verdict for cell in report.cells} == {Verdict.VACUOUS}
    assert "no number but 0, NaN and infinity" in report.cells[0].message
    assert not any("negative" in note for note in report.notes)
