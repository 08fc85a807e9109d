"""What `anysize evaluate` reads: images that are broken, missing, many, or that have changed."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import onnx
import pytest
from PIL import Image

import anysize
from anysize import Preprocessing
from anysize.errors import UsageError
from anysize.surgery import read_metadata, write_metadata
from anysize.validators.evaluation import job as jobs

NAMES = (*map(str, range(10)), "background")


def labelled(folder: Path) -> list[tuple[Path, int]]:
    return [(path, int(path.parent.name)) for path in sorted(folder.glob("*/*.png"))]


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


def test_an_interrupted_evaluation_goes_on_where_it_stopped(scans, digits_files, tmp_path, counted):
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
    assert run() == done  # times, too
    assert len(seen) == len(labelled(scans))
    rows.write_bytes(rows.read_bytes() * 2)  # answers for more images than there are
    rows.with_suffix(".json").write_text('{"run_s": [-1], "peak_bytes": 1, "ran_on": ""}')
    assert run().rows[0].accuracy == done.rows[0].accuracy  # of all images, none kept
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
