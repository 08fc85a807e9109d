"""What a job of a matrix depends on, and what therefore makes it run again."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import onnx
import pytest

from anysize.verbs.matrix_runs import key as matrix_key
from anysize.verbs.matrix_runs.key import input_files, job_keys
from anysize.verbs.matrix_runs.plan import read_matrix

FILE = '[[model]]\nfile = "own.onnx"\n'
SOURCE = '[[model]]\nsource = "nets_of_key.small:make"\n'


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Return the one job of a configuration in the working folder."""
    monkeypatch.chdir(tmp_path)

    def read(text):
        (tmp_path / "matrix.toml").write_text(text)
        (job,) = read_matrix(tmp_path / "matrix.toml")
        return job

    return read


@pytest.fixture
def external(tmp_path, digits_files):
    """Write a model with its weights beside it."""

    def write(name):
        onnx.save(
            onnx.load(digits_files["gap"]),
            tmp_path / name,
            save_as_external_data=True,
            location=f"{name}.data",
            size_threshold=0,
        )
        return tmp_path / name

    return write


def key(job):
    return job_keys([job])[job]


def changed(path):
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def test_a_key_stays_while_nothing_changes(job, external):
    external("own.onnx")
    assert key(job(FILE)) == key(job(FILE))


@pytest.mark.parametrize("name", ["own.onnx", "own.onnx.data", "other.onnx", "other.onnx.data"])
def test_a_changed_byte_of_a_model_or_its_weights_changes_the_key(job, external, tmp_path, name):
    external("own.onnx")
    external("other.onnx")
    one = job(f'{FILE}reference = "other.onnx"\n')
    before = key(one)
    if name.endswith(".onnx"):
        model = onnx.load(tmp_path / name, load_external_data=False)
        model.doc_string = "changed"
        onnx.save(model, tmp_path / name)
    else:
        changed(tmp_path / name)
    assert key(one) != before


def test_a_changed_checkpoint_changes_the_key(job, tmp_path):
    one = job(f'{FILE}weights = "w.pt"\n')
    missing = key(one)
    (tmp_path / "w.pt").write_bytes(b"1")
    before = key(one)
    changed(tmp_path / "w.pt")
    assert len({missing, before, key(one)}) == 3


@pytest.mark.parametrize("content", [b"", b"no model", None], ids=["empty", "text", "missing"])
def test_a_model_that_cannot_be_read_has_a_key(job, tmp_path, content):
    one = job(FILE)
    if content is not None:
        (tmp_path / "own.onnx").write_bytes(content)
    assert key(one) == key(one)


def test_a_name_that_no_file_can_have_has_a_key(job):
    assert key(job(f'[[model]]\nfile = "{"x" * 300}.onnx"\nweights = "a\\u0000b"\n'))


@pytest.fixture
def package(tmp_path):
    """A package whose model imports from itself and from a module beside it."""
    folder = tmp_path / "nets_of_key"
    (folder / "parts").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "small.py").write_text("import os, layers_of_key\nraise RuntimeError\n")
    (folder / "parts" / "deep.py").write_text("")
    (tmp_path / "layers_of_key.py").write_text("from single_of_key import x\n")
    (tmp_path / "single_of_key.py").write_text("x = 1\n")
    (tmp_path / "unused_of_key.py").write_text("")
    return folder


@pytest.mark.parametrize("use", ["source", "reference", "metadata"])
@pytest.mark.parametrize(
    "name",
    [
        "nets_of_key/small.py",
        "nets_of_key/__init__.py",
        "nets_of_key/parts/deep.py",
        "layers_of_key.py",
        "single_of_key.py",
    ],
)
def test_a_changed_python_file_changes_the_key(job, package, external, use, name):
    one = job(SOURCE)
    if use != "source":
        path = external("own.onnx")
        one = job(FILE)
        if use == "reference":
            one = job(f'{FILE}reference = "nets_of_key.small:make"\n')
        else:
            model = onnx.load(path, load_external_data=False)
            (entry,) = [e for e in model.metadata_props if e.key == "anysize.model"]
            entry.value = "nets_of_key.small:make"
            onnx.save(model, path)
    before = key(one)
    (package.parent / "unused_of_key.py").write_text("# changed\n")
    assert key(one) == before
    (package.parent / name).write_text("# changed\n")
    assert key(one) != before


def test_a_package_of_too_many_files_is_never_taken_over(job, package, monkeypatch):
    monkeypatch.setattr(matrix_key, "_MOST_SOURCES", 2)
    one = job(SOURCE)
    assert key(one) != key(one)


@pytest.mark.parametrize(
    ("place", "counts"),
    [("site-packages", True), ("folder", True), ("site-packages/setuptools/_vendor", False)],
)
def test_what_a_package_brings_for_itself_changes_no_key(job, tmp_path, monkeypatch, place, counts):
    """Its folder is on the path as soon as the package is imported, and not before."""
    one = job('[[model]]\nsource = "lenet"\n')
    before = key(one)
    information = tmp_path / place / "of_key-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: of-key\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path / place)
    assert (key(one) != before) is counts


@pytest.mark.parametrize("source", ["lenet", "nowhere_of_key:x", "a..b:x", ":", "json:dumps"])
def test_a_source_that_is_no_file_of_the_user_s_has_a_key(job, source):
    assert key(job(f'[[model]]\nsource = "{source}"\n'))


def test_another_version_of_a_package_changes_the_key(job, monkeypatch):
    one = job('[[model]]\nsource = "lenet"\n')
    before = key(one)

    class Package:
        metadata = {"Name": "onnxruntime"}  # noqa: RUF012
        version = "99"

    class LeftBehind:
        @property
        def metadata(self):
            raise TypeError

    found = [*metadata.distributions(), LeftBehind()]
    monkeypatch.setattr(metadata, "distributions", lambda path: found)
    assert key(one) == before
    monkeypatch.setattr(metadata, "distributions", lambda path: [*found, Package()])
    assert key(one) != before


def test_what_this_process_has_imported_does_not_change_the_key():
    code = "import sys; from anysize.verbs.matrix_runs.key import installed_versions; "
    before, after = (
        subprocess.run(
            [sys.executable, "-c", f"{code}{imported}print(installed_versions())"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for imported in ("", "import torch, setuptools; ")
    )
    assert before == after


def test_the_files_of_a_job_are_those_that_exist(job, package, external, tmp_path):
    external("own.onnx")
    one = job(f'{FILE}reference = "nets_of_key.small:make"\nweights = "missing.pt"\n')
    names = {path.relative_to(tmp_path).as_posix() for path in input_files(one)}
    assert names == {
        "own.onnx",
        "own.onnx.data",
        "nets_of_key/__init__.py",
        "nets_of_key/small.py",
        "nets_of_key/parts/deep.py",
        "layers_of_key.py",
        "single_of_key.py",
    }
