"""`anysize demo`: every promised file, every digit at its place."""

from __future__ import annotations

import json
from dataclasses import replace

import onnx
import pytest
from PIL import Image

from anysize.models.digits.page import load_page
from anysize.verbs import demo as demo_module
from anysize.verbs.demo import demo

REACH_PIXELS = 8
MODELS = ("digits-fc", "digits-fcn", "digits-gap", "digits-spp", "digits-any")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return demo(tmp_path_factory.mktemp("demo") / "new" / "folder")


def misplaced(found, truth):
    """Digits of the page that no detection has at their place, and detections left over."""
    left = list(found)
    missing = []
    for digit in truth:
        near = [
            one
            for one in left
            if one.label == digit.label
            and abs(one.y - digit.y) <= REACH_PIXELS
            and abs(one.x - digit.x) <= REACH_PIXELS
        ]
        if near:
            left.remove(near[0])
        else:
            missing.append(digit)
    return [*missing, *left]


def test_every_digit_of_the_page_is_found_at_its_place(done):
    assert misplaced(done.found, load_page().digits) == []
    assert len(done.found) == done.on_page == done.correct >= 8
    assert done.exit_code == 0


def moved(found):
    return (replace(found[0], x=found[0].x + 2 * REACH_PIXELS), *found[1:])


def relabelled(found):
    return (replace(found[0], label=(found[0].label + 1) % 10), *found[1:])


@pytest.mark.parametrize("spoil", [moved, relabelled])
def test_a_wrong_detection_is_noticed(done, spoil):
    truth = load_page().digits
    wrong = spoil(done.found)
    assert len(misplaced(wrong, truth)) == 2
    correct = demo_module._count_correct(wrong, truth)
    assert correct == done.on_page - 1
    assert replace(done, found=wrong, correct=correct).exit_code == 1


def test_a_detection_missing_or_seen_twice_is_noticed(done):
    truth = load_page().digits
    for wrong in (done.found[1:], (*done.found, done.found[0])):
        correct = demo_module._count_correct(wrong, truth)
        assert replace(done, found=wrong, correct=correct).exit_code == 1


def test_all_promised_files_exist_and_nothing_else(done):
    assert sorted(path.name for path in done.folder.iterdir()) == sorted(done.files)
    for name in MODELS:
        onnx.checker.check_model(done.folder / f"{name}.onnx", full_check=True)
        report = json.loads((done.folder / f"{name}.report.json").read_text())
        assert {cell["verdict"] for cell in report["cells"]} <= {"pass", "rejected"}
    with Image.open(done.folder / "page-heatmap.png") as picture:
        assert min(picture.size) > 500


def test_the_report_names_every_file_and_every_digit(done):
    text = (done.folder / "report.md").read_text()
    for name in done.files:
        assert name in text
    for digit in done.found:
        assert f"| {digit.label} | {digit.y:.0f} | {digit.x:.0f} |" in text
    assert f"{done.on_page} of {done.on_page} right" in text


def test_the_fc_file_is_rejected_where_the_rewritten_one_passes(done):
    reports = dict(done.reports)

    def verdicts(name):
        return {str(cell.size): cell.verdict for cell in reports[name].cells}

    assert verdicts("digits-fc.onnx")["288x416"] == "rejected"
    assert set(verdicts("digits-any.onnx").values()) == {"pass"}
    assert reports["digits-any.onnx"].reference.kind == "windows"


def test_the_command_prints_the_table_and_the_digits(done, run, monkeypatch):
    monkeypatch.setattr(demo_module, "demo", lambda output, progress: done)
    finished = run("demo", "-o", done.folder)
    assert finished.code == 0
    assert "digits-any.onnx" in finished.out
    assert f"{done.correct} of {done.on_page} right" in finished.out
    assert f"open {done.folder / 'report.html'} in a browser" in finished.out


def test_the_page_of_the_demo_has_every_file_and_is_left_out_where_it_cannot_be_made(done):
    page = (done.folder / "report.html").read_text()
    assert all(f"{name}.onnx" in page for name in MODELS)
    without = replace(done, has_page=False)
    assert "report.html" not in (*without.files, without.summary())
