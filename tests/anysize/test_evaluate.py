"""`anysize evaluate`: what it counts is what PyTorch alone counts, on a folder of digits.

The expected shares are computed here, with PIL and PyTorch; no code of the product is between them.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import anysize
from anysize import Preprocessing, Size
from anysize.models import build
from anysize.surgery import load_model, read_metadata
from anysize.validators.evaluation import job as jobs

NAMES = (*map(str, range(10)), "background")
SIZES = (24, 32, 48)


def labelled(folder: Path) -> list[tuple[Path, int]]:
    return [(path, int(path.parent.name)) for path in sorted(folder.glob("*/*.png"))]


def torch_scores(folder: Path, head: str, side: int) -> torch.Tensor:
    """The scores of the network for each image, one after the other; of a map its mean."""
    module = build("digits", head=head)
    scores = []
    for path, _ in labelled(folder):
        with Image.open(path) as picture:
            resized = picture.resize((side, side), Image.Resampling.BILINEAR)
        image = torch.from_numpy(np.asarray(resized, np.float32) / 255)[None, None]
        with torch.inference_mode():
            answer = module(image)
        scores.append(answer.mean((2, 3)) if answer.ndim == 4 else answer)
    return torch.cat(scores)


def torch_shares(folder: Path, head: str, side: int) -> tuple[float, float, float]:
    scores = torch_scores(folder, head, side)
    labels = torch.tensor([label for _, label in labelled(folder)])
    top = scores.topk(5).indices
    first = torch_scores(folder, "fc", 32).argmax(1)
    return (
        float((top[:, 0] == labels).double().mean()),
        float((top == labels[:, None]).any(1).double().mean()),
        float((top[:, 0] == first).double().mean()),
    )


def shares(row):
    return row.accuracy.top1, row.accuracy.top5, row.accuracy.agreement


@pytest.fixture(scope="module")
def evaluation(scans):
    return anysize.evaluate(
        "digits",
        scans,
        heads=["fc", "fcn", "adaptive"],
        sizes=[(side, side) for side in SIZES],
        class_names=NAMES,
        runs=5,
    )


@pytest.mark.parametrize("head", ["fcn", "adaptive"])
@pytest.mark.parametrize("side", SIZES)
def test_accuracy_and_agreement_are_what_torch_alone_counts(evaluation, scans, head, side):
    row = next(r for r in evaluation.rows if (r.head, r.size) == (head, Size(side, side)))
    if (head, side) == ("fcn", 24):  # below one window
        assert (row.status, row.reason) == ("rejected", "takes 32x32 and up")
        return
    assert shares(row) == torch_shares(scans, head, side)
    assert row.accuracy.images == len(labelled(scans)) == evaluation.images


def test_a_head_of_one_size_is_rejected_at_others_and_agrees_with_itself(evaluation):
    rows = [row for row in evaluation.rows if row.head == "fc"]
    assert [row.status for row in rows] == ["rejected", "ran", "rejected"]
    assert rows[1].accuracy.agreement == 1.0
    assert evaluation.reference == "digits fc at 32x32"
    assert (evaluation.ok, evaluation.exit_code) == (True, 0)


def test_the_confusions_are_those_of_the_wrong_answers(evaluation, scans):
    row = next(r for r in evaluation.rows if (r.head, str(r.size)) == ("adaptive", "48x48"))
    taken = torch_scores(scans, "adaptive", 48).argmax(1).tolist()
    wrong = [
        (str(label), NAMES[at])
        for (_, label), at in zip(labelled(scans), taken, strict=True)
        if at != label
    ]
    assert wrong
    counted = {(one.label, one.taken_for): one.count for one in row.accuracy.confusions}
    assert counted == {pair: wrong.count(pair) for pair in counted}
    assert len(counted) == min(10, len(set(wrong)))


def test_a_wrong_order_of_labels_is_another_accuracy(scans, digits_files):
    turned = (*NAMES[1:10], NAMES[0], NAMES[10])
    done = anysize.evaluate(
        digits_files["fc"], scans, sizes="32x32", class_names=turned, runs=1, warm_up=0
    )
    right, _, _ = torch_shares(scans, "fc", 32)
    assert right > 0.9
    assert done.rows[0].accuracy.top1 < 0.1


def test_a_csv_of_numbers_is_the_same_dataset(scans, digits_files, tmp_path, evaluation):
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "label"])
        rows.writerows(labelled(scans))
    done = anysize.evaluate(digits_files["fc"], tmp_path / "list.csv", sizes="32x32", runs=1)
    fc = next(row for row in evaluation.rows if row.status == "ran" and row.head == "fc")
    assert done.rows[0].accuracy == fc.accuracy


def test_a_benchmark_measures_time_and_memory(digits_files, run, tmp_path):
    done = anysize.benchmark(digits_files["fcn"], sizes="quick", batch=3, runs=7)
    assert [str(row.size) for row in done.rows] == ["32x32", "64x64"]
    for row in done.rows:
        timing = row.timing
        assert (row.accuracy, timing.batch, timing.runs) == (None, 3, 7)
        assert 0 < timing.low_ms <= timing.latency_ms <= timing.high_ms
        assert timing.images_per_s == pytest.approx(3e3 / timing.latency_ms)
        assert "CPUExecutionProvider" in timing.ran_on
    peaks = [row.timing.peak_memory_bytes for row in done.rows]
    large = anysize.benchmark(digits_files["fcn"], sizes="1024x1024", runs=1, warm_up=0)
    assert large.rows[0].timing.peak_memory_bytes > max(peaks) + (20 << 20)


def test_a_file_is_rewritten_to_the_heads_that_are_asked_for(digits_files, run):
    done = anysize.benchmark(
        digits_files["fc"], heads="fc,fcn,adaptive,resize", sizes="40x40", runs=1, warm_up=0
    )
    assert [(row.head, row.status) for row in done.rows] == [
        ("fc", "rejected"),
        ("fcn", "ran"),
        ("adaptive", "ran"),
        ("resize", "ran"),
    ]
    failed = run("benchmark", digits_files["fc"], "--heads", "spp")
    assert failed.code == 2
    assert "can be rewritten to fcn, gap, cam, adaptive, resize" in failed.errors[0]


def test_a_source_is_built_with_its_arguments(small_folder, run, monkeypatch):
    monkeypatch.chdir(small_folder)
    (small_folder / "wide_net.py").write_text(
        "from torch import nn\n\n\ndef make(*, classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, classes))\n"
    )
    options = ("--size", "8", "--heads", "as-is,fcn", "--sizes", "8,9", "--runs", "1")
    done = run("benchmark", "wide_net:make", *options, "--model-args", '{"classes": 3}')
    assert done.code == 0, done.err
    assert done.out.count("rejected") == 2  # 9x9, which the first one does not take; and its reason
    assert "give --model-args" in run("benchmark", "wide_net:make", *options).err


def test_a_file_that_tells_no_training_size_is_rewritten_at_the_one_that_is_given(
    digits_files, run, tmp_path
):
    model, path = onnx.load(digits_files["fc"]), tmp_path / "bare.onnx"
    del model.metadata_props[:]
    onnx.save(model, path)
    options = ("--heads", "fcn", "--sizes", "32x32", "--runs", "1")
    assert run("benchmark", path, *options, "--size", "32").code == 0
    assert "give --size" in run("benchmark", path, *options).err


def test_the_result_is_a_table_a_page_and_json(evaluation, scans, digits_files, run, tmp_path):
    pytest.importorskip("jinja2", reason="the page needs the extra report")
    text, page = str(evaluation), evaluation.to_html()
    assert "rejected" in text
    assert "digits fc ort-cpu at 24x24, 48x48: rejected: takes 32x32 to 35x35" in text
    assert "preprocessing: value × 1/255" in text
    assert evaluation._repr_html_().count("<tr>") == len(evaluation.rows) + 1
    assert page.count('<svg class="plot"') == 3
    assert "<script" not in page
    content = json.loads(evaluation.to_json())
    assert content["rows"][4]["accuracy"]["top1"] == evaluation.rows[4].accuracy.top1
    classes = tmp_path / "names.txt"
    classes.write_text("\n".join(NAMES))
    arguments = ["--data", scans, "--sizes", "32x32", "--classes", classes, "--runs", "1"]
    done = run("evaluate", digits_files["fc"], *arguments, "--json", "-")
    assert json.loads(done.out)["exit_code"] == done.code == 0


def test_a_name_from_outside_is_escaped_on_the_page(evaluation):
    from dataclasses import replace

    pytest.importorskip("jinja2", reason="the page needs the extra report")
    evil = "<script>alert(1)</script>"
    rows = tuple(replace(row, model=evil) for row in evaluation.rows)
    hostile = replace(evaluation, data=evil, rows=rows, broken=(evil,), broken_count=1)
    assert "<script" not in hostile.to_html() + hostile._repr_html_()


@pytest.mark.parametrize("verb", ["export", "rewrite"])
def test_preprocessing_and_names_are_written_read_and_used(verb, digits_files, run, tmp_path):
    out, names = tmp_path / "out.onnx", tmp_path / "names.txt"
    names.write_text("\n".join(NAMES) + "\n")
    source = ["digits", "--head", "fc"] if verb == "export" else [digits_files["fc"]]
    said = ["--mean", "0.25", "--std", "0.5", "--scale", "1/255", "--bgr", "--classes", names]
    done = run(verb, *source, "-o", out, "--no-verify", *said)
    assert done.code == 0
    metadata = read_metadata(load_model(out, weights="in_file"))
    expected = Preprocessing("bgr", 1 / 255, (0.25,), (0.5,))
    assert (metadata.preprocessing, metadata.class_names) == (expected, NAMES)
    again = tmp_path / "again.onnx"
    anysize.rewrite(
        out,
        again,
        to="dynamic" if verb == "rewrite" else "fcn",
        verify=False,
        preprocessing=Preprocessing(crop=0.9),
    )
    kept = read_metadata(load_model(again, weights="in_file"))
    assert kept.preprocessing == Preprocessing("bgr", 1 / 255, (0.25,), (0.5,), 0.9)
    assert kept.class_names == NAMES
    wrong = run(verb, *source, "-o", tmp_path / "no.onnx", "--no-verify", "--mean", "1,2")
    assert (wrong.code, (tmp_path / "no.onnx").exists()) == (2, False)
    assert "mean: got 2 numbers, expected 1" in wrong.errors[0]


def test_the_files_preprocessing_is_used_and_flags_go_before_it(scans, digits_files, tmp_path):
    inverted = Preprocessing(mean=(1.0,), std=(1.0,))  # black where it should be white
    anysize.rewrite(
        digits_files["fc"],
        tmp_path / "wrong.onnx",
        to="fcn",
        verify=False,
        preprocessing=inverted,
        class_names=NAMES,
    )
    options = {"sizes": "32x32", "runs": 1}
    file = anysize.evaluate(tmp_path / "wrong.onnx", scans, **options)
    assert file.models[0].preprocessing_from == "file"
    assert "mean 1" in file.models[0].preprocessing
    assert file.rows[0].accuracy.top1 < 0.5
    flags = anysize.evaluate(
        tmp_path / "wrong.onnx", scans, **options, preprocessing=Preprocessing(mean=(0.0,))
    )
    assert flags.models[0].preprocessing_from == "flags"
    assert flags.rows[0].accuracy.top1 > 0.9


def test_answers_that_are_no_numbers_and_ties_are_seen():
    rows = [[1, 3, 3], [np.nan, 2, 1], [-np.inf, 0, 1], [np.inf, 0, 1]]
    scores = np.array(rows, np.float64)
    top = jobs._strongest(scores)
    assert top[0].tolist() == [1, 2, 0, jobs.NoAnswer.NONE, jobs.NoAnswer.NONE]
    assert top[1, 0] == top[3, 0] == jobs.NoAnswer.NOT_FINITE
    assert top[2, 0] == 2


def test_a_module_in_memory_sees_colours_normalised_as_for_imagenet(scans):
    torch.manual_seed(3)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 5), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(), torch.nn.Linear(256, 10),
    ).eval()  # fmt: skip
    done = anysize.evaluate(module, scans, size="40x40", sizes=[(40, 48)], fit="resize", runs=1)
    assert done.reference == "Sequential as-is at 40x40"
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    first = []
    for path, _ in labelled(scans):
        with Image.open(path) as picture:
            resized = picture.convert("RGB").resize((48, 40), Image.Resampling.BILINEAR)
        image = (torch.from_numpy(np.asarray(resized, np.float32) / 255) - mean) / std
        with torch.inference_mode():
            first.append(int(module(image.permute(2, 0, 1)[None]).argmax()))
    right = [one == label for one, (_, label) in zip(first, labelled(scans), strict=True)]
    assert len(set(first)) > 1
    assert done.rows[0].accuracy.top1 == sum(right) / len(right)


def test_files_that_are_alike_have_a_row_each_and_other_classes_are_not_compared(
    scans, digits_files, tmp_path
):
    turned = tmp_path / "turned.onnx"
    names = (*NAMES[1:], NAMES[0])
    anysize.rewrite(digits_files["fc"], turned, to="fcn", verify=False, class_names=names)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(turned.read_bytes())
    options = {"sizes": "32x32", "runs": 1}
    done = anysize.evaluate([turned, copy], scans, **options)
    assert [row.model for row in done.rows] == [str(turned), str(copy)]
    assert [row.accuracy.agreement for row in done.rows] == [1.0, 1.0]
    named = tmp_path / "named.onnx"
    anysize.rewrite(digits_files["fc"], named, to="fcn", verify=False, class_names=NAMES)
    done = anysize.evaluate([named, turned], scans, **options)
    assert [row.accuracy.agreement for row in done.rows] == [1.0, None]
    assert done.notes == (f"no agreement of {turned} fcn: its classes are not the reference's",)
