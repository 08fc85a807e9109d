"""`anysize evaluate`: what it counts is what PyTorch alone counts, on a folder of digits.

The expected shares are computed here, with PIL and PyTorch; no code of the product is between them.
"""

from __future__ import annotations

import csv
import gc
import json
import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import anysize
from anysize import Preprocessing, Size
from anysize.errors import UsageError
from anysize.models import build
from anysize.surgery import load_model, read_metadata, write_metadata
from anysize.validators.evaluation import job as jobs

NAMES = (*map(str, range(10)), "background")
EVERY = 6
SIZES = (24, 32, 48)


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """Sixty scans that the network was not trained on, a folder for each digit."""
    pytest.importorskip("sklearn", reason="the scans come with scikit-learn")
    from digits.scans import centred_pixels, load_scans

    folder = tmp_path_factory.mktemp("data") / "scans"
    found = load_scans("held-out")
    for pixels, label, index in zip(
        centred_pixels(found)[::EVERY],
        found.labels[::EVERY].tolist(),
        found.indices[::EVERY].tolist(),
        strict=True,
    ):
        path = folder / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels[0].numpy() * 255).round().astype(np.uint8)).save(path)
    return folder


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


class StoppedError(Exception):
    pass


@pytest.fixture
def counted(monkeypatch):
    """The images that are read, and how many are alive at once at most."""
    seen: list[Path] = []
    alive: list[int] = []
    references: list[weakref.ref] = []
    prepare = jobs._prepared

    def prepared(job, path):
        image = prepare(job, path)
        seen.append(path)
        references.append(weakref.ref(image))
        references[:] = [one for one in references if one() is not None]
        alive.append(len(references))
        return image

    monkeypatch.setattr(jobs, "_prepared", prepared)
    return seen, alive


def test_an_interrupted_evaluation_goes_on_where_it_stopped(
    scans, digits_files, tmp_path, counted, evaluation
):
    seen, _ = counted

    def stop(done, total, text):
        assert done <= total or not total
        if done >= 32:
            raise StoppedError

    def run(**options):
        return anysize.evaluate(
            *(digits_files["fc"], scans),
            sizes="32x32",
            class_names=NAMES,
            runs=2,
            folder=tmp_path / "kept",
            **options,
        )

    with pytest.raises(StoppedError):
        run(progress=stop)
    assert len(seen) == 32
    (rows,) = (tmp_path / "kept").glob("*.rows")
    with rows.open("ab") as stream:  # as a process that is killed leaves it
        stream.write(b"half")
    done = run()
    assert seen == [path for path, _ in labelled(scans)]
    fc = next(row for row in evaluation.rows if row.status == "ran" and row.head == "fc")
    assert done.rows[0].accuracy == fc.accuracy
    assert run() == done  # times, too
    assert len(seen) == len(labelled(scans))
    rows.write_bytes(rows.read_bytes() * 2)  # answers for more images than there are
    rows.with_suffix(".json").write_text('{"run_s": [-1], "peak_bytes": 1, "ran_on": ""}')
    assert run().rows[0].accuracy == fc.accuracy
    assert len(seen) == 2 * len(labelled(scans))


def test_what_was_kept_of_other_images_or_another_size_is_not_taken(
    scans, digits_files, tmp_path, counted
):
    seen, _ = counted
    other = Preprocessing(std=(2.0,))
    for sizes, preprocessing in (("32x32", None), ("33x33", None), ("32x32", other)):
        before = len(seen)
        anysize.evaluate(
            *(digits_files["gap"], scans),
            sizes=sizes,
            class_names=NAMES,
            runs=1,
            folder=tmp_path / "kept",
            preprocessing=preprocessing,
        )
        assert len(seen) - before == len(labelled(scans))


@pytest.mark.parametrize("copies", [1, 4])
def test_the_images_that_are_in_memory_are_one_batch_whatever_the_folder_holds(
    scans, digits_files, tmp_path, counted, copies
):
    seen, alive = counted
    for path, label in labelled(scans):
        for copy in range(copies):
            to = tmp_path / "data" / str(label) / f"{copy}-{path.name}"
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
    gc.collect()
    options = {"sizes": "32x32", "class_names": NAMES, "runs": 1}
    anysize.evaluate(digits_files["fc"], tmp_path / "data", **options)
    assert len(seen) == copies * len(labelled(scans))
    assert 1 < max(alive) <= 2 * jobs._MOST_AT_ONCE


def bad_data(name: str, folder: Path) -> Path:
    data = folder / "data"
    for label in ("0", "1"):
        (data / label).mkdir(parents=True)
        Image.new("L", (32, 32)).save(data / label / "a.png")
    match name:
        case "empty":
            data = folder / "empty"
            data.mkdir()
        case "missing":
            data = folder / "missing"
        case "text":
            (data / "0" / "note.jpg").write_text("no picture")
        case "no image of a class":
            (data / "2").mkdir()
        case "only broken":
            for path in data.glob("*/*.png"):
                path.write_bytes(path.read_bytes()[:50])
        case "unknown label":
            data = folder / "list.csv"
            data.write_text("data/0/a.png,99\n")
        case "no pair":
            data = folder / "list.csv"
            data.write_text("path,label\ndata/0/a.png\n")
    return data


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "has no folder; expected"),
        ("missing", "No such file or directory; expected a folder of classes, or a CSV"),
        ("text", "note.jpg: cannot be read: cannot identify image file; remove what is no image"),
        ("no image of a class", "class '2' has no image"),
        ("two classes", "has 2 classes, and {model} fc has 11 outputs; name these in order with"),
        ("only broken", "none of its 2 images can be read"),
        ("unknown label", "has label 99, and {model} fc has 11 outputs"),
        ("no pair", "line 2: got 'data/0/a.png', expected path,label"),
    ],
)
def test_data_that_cannot_be_used_give_one_line(name, words, digits_files, run, tmp_path):
    data = bad_data(name, tmp_path)
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(NAMES))
    given = ["--classes", classes] if name == "only broken" else []
    done = run("evaluate", digits_files["fc"], "--data", data, "--sizes", "32x32", *given)
    assert (done.code, len(done.errors), done.out) == (2, 1, "")
    assert words.format(model=digits_files["fc"]) in done.errors[0]


def test_broken_images_are_counted_and_named_and_count_nowhere(scans, digits_files, tmp_path):
    for path, label in labelled(scans)[::4]:
        to = tmp_path / "data" / str(label) / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())
    broken = labelled(tmp_path / "data")[3][0]
    broken.write_bytes(broken.read_bytes()[:60])
    done = anysize.evaluate(
        digits_files["fc"], tmp_path / "data", sizes="32x32", class_names=NAMES, runs=1
    )
    name = str(broken.relative_to(tmp_path / "data"))
    assert (done.broken_count, done.broken) == (1, (name,))
    assert done.rows[0].accuracy.images == done.images - 1
    assert f"1, which count nowhere: {name}" in str(done)


def test_images_as_they_are_are_refused_where_their_size_is(scans, digits_files, tmp_path):
    for number, (path, label) in enumerate(labelled(scans)[::3]):
        to = tmp_path / "data" / str(label) / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            picture.resize((32, 32 + 8 * (number % 2))).save(to)
    done = anysize.evaluate(
        [digits_files["fc"], digits_files["fcn"]],
        tmp_path / "data",
        fit="none",
        class_names=NAMES,
    )
    fc, fcn = done.rows
    assert (fc.size, fcn.size) == (None, None)
    assert (fc.accuracy.refused, fcn.accuracy.refused) == (10, 0)
    assert fc.accuracy.top1 <= 0.5 < fc.accuracy.top1 + 0.1
    assert fcn.timing.batch == 1
    with pytest.raises(UsageError, match="leave out sizes"):
        anysize.evaluate(digits_files["fc"], tmp_path / "data", fit="none", sizes="32x32")


def test_a_runtime_that_does_not_run_is_a_failed_row_and_exit_3(digits_files, tmp_path, run):
    model = onnx.load(digits_files["fc"])
    write_metadata(model, type(read_metadata(model))())
    onnx.save(model, tmp_path / "silent.onnx")  # it does not say which sizes it takes
    done = run("benchmark", tmp_path / "silent.onnx", "--sizes", "32x32,48x48", "--runs", "2")
    assert done.code == 3
    assert "silent.onnx ort-cpu at 48x48: failed: " in done.out
    found = anysize.benchmark(digits_files["fc"], runtimes="ort-tensorrt", sizes="32x32")
    assert (found.exit_code, found.rows[0].status) == (3, "failed")
    assert found.rows[0].reason


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
