"""`--verify quick|full|off`: what is compared before a file appears, and what is said of it."""

from __future__ import annotations

import pytest
from torch import nn

import anysize
from anysize.errors import UsageError

AFFORDABLE = "anysize.validators.inputs.quick._AFFORDABLE"


def network():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


@pytest.fixture
def heavy(monkeypatch):
    """Let every network be heavy."""
    monkeypatch.setattr(AFFORDABLE, 0)


def compared(report):
    return {(str(cell.size), cell.batch) for cell in report.cells}


@pytest.mark.parametrize("word", ["quick", True])
def test_quick_compares_a_light_network_as_full_does(tmp_path, word):
    quick = anysize.export(network(), tmp_path / "q.onnx", size="48x48", verify=word).report
    full = anysize.export(network(), tmp_path / "f.onnx", size="48x48", verify="full").report
    assert compared(quick) == compared(full)


@pytest.mark.usefixtures("heavy")
def test_quick_compares_a_heavy_network_at_fewer_and_smaller_sizes(tmp_path):
    done = anysize.export(network(), tmp_path / "q.onnx", size="48x48")
    full = anysize.export(network(), tmp_path / "f.onnx", size="48x48", verify="full")
    assert sum(c.size.area * c.batch for c in done.report.cells) < 1e4
    assert sum(c.size.area * c.batch for c in full.report.cells) > 6e4
    sizes = {cell.size for cell in done.report.cells}
    largest = max(sizes, key=lambda size: size.area)
    assert f"verified on ort-cpu at {len(sizes)} sizes, 1x1 to {largest}: " in done.summary()


@pytest.mark.parametrize("word", ["off", False])
def test_off_compares_nothing(tmp_path, word):
    done = anysize.export(network(), tmp_path / "o.onnx", size="48x48", verify=word)
    assert done.report is None
    assert "not verified" in done.summary()


@pytest.mark.parametrize(
    ("verb", "source"), [(anysize.export, "lenet"), (anysize.rewrite, "a.onnx")]
)
def test_another_word_is_refused(tmp_path, verb, source):
    with pytest.raises(UsageError, match="verify 'slow': expected quick, full or off"):
        verb(source, tmp_path / "o.onnx", verify="slow")


@pytest.mark.parametrize("words", [("--verify", "off"), ("--no-verify",)])
def test_the_command_line_has_both_words_for_off(run, tmp_path, words):
    done = run("export", "lenet", "--head", "fc", "-o", tmp_path / "fc.onnx", *words)
    assert (done.code, "not verified" in done.out) == (0, True)
    again = run("rewrite", tmp_path / "fc.onnx", "-o", tmp_path / "any.onnx", *words)
    assert (again.code, "not verified" in again.out) == (0, True)


@pytest.mark.usefixtures("heavy")
def test_a_rewrite_of_a_heavy_file_stays_near_its_training_size(run, tmp_path):
    path = tmp_path / "fc.onnx"
    assert run("export", "lenet", "--head", "fc", "-o", path, "--no-verify").code == 0
    told = []
    done = anysize.rewrite(path, tmp_path / "q.onnx", progress=lambda *step: told.append(step))
    assert {str(cell.size) for cell in done.proof.cells} == {"32x32", "32x36", "37x36"}
    assert "answers equal at 3 sizes" in done.summary()
    texts = [text for _, _, text in told]
    assert any(text.startswith("proving: rewritten at 32x36 batch 2") for text in texts)
    full = anysize.rewrite(path, tmp_path / "f.onnx", verify="full")
    assert {str(cell.size) for cell in full.proof.cells} > {"32x32", "33x33", "64x64", "32x48"}
    assert {cell.batch for cell in full.proof.cells} == {2}


@pytest.mark.usefixtures("heavy")
def test_a_rewrite_that_has_a_module_is_compared_with_it_as_an_export_is(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 4))
    path = tmp_path / "fc.onnx"
    anysize.export(module.eval(), path, size="32x32", verify="off")
    quick, full = (
        anysize.rewrite(path, tmp_path / "any.onnx", reference=module, verify=word).report
        for word in ("quick", "full")
    )
    assert quick.ok
    assert len(compared(quick)) < len(compared(full))


def test_what_is_left_is_said_in_seconds_and_minutes():
    from anysize.validators import Progress
    from anysize.verbs.progress import validation_progress

    told = []
    show = validation_progress(lambda done, total, text: told.append((done, total, text)), "p: ")
    for seconds in (None, 0.2, 12.4, 150.0):
        show(Progress(1, 2, "x at 8x8", seconds))
    assert [text for _, _, text in told] == [
        "p: x at 8x8",
        "p: x at 8x8, about 1 s left",
        "p: x at 8x8, about 12 s left",
        "p: x at 8x8, about 2 min left",
    ]
