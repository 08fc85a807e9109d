"""An output file appears whole or not at all."""

from __future__ import annotations

import hashlib

import pytest

from anysize.errors import UsageError
from anysize.files import atomic_output, file_sha256, staged_output


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_output(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_output(path) as stream:
        stream.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o400


def test_staged_files_appear_together(tmp_path):
    path = tmp_path / "m.onnx"
    with staged_output(path) as staged:
        staged.write_bytes(b"graph")
        staged.with_name("m.onnx.data").write_bytes(b"weights")
        assert not path.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]


def test_a_failed_stage_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="verification"), staged_output(path) as staged:
        staged.write_bytes(b"new")
        raise ValueError("verification")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_and_a_folder_as_file_are_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match="does not exist"), atomic_output(tmp_path / "no" / "x"):
        pass
    with pytest.raises(UsageError, match="is a folder"), staged_output(tmp_path):
        pass


def test_file_sha256_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"anysize")
    assert file_sha256(path) == hashlib.sha256(b"anysize").hexdigest()
