"""A file that the user names is read within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anysize.errors import UsageError
from anysize.files import read_regular, remove_partial, staged_output


def test_a_file_of_just_the_size_is_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    assert read_regular(path, most=4) == b"1234"
    with pytest.raises(UsageError, match="is larger than 3 bytes"):
        read_regular(path, most=3)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(UsageError, match="is a device or a pipe, expected a regular file"):
            read_regular(path, most=4)
    with pytest.raises(UsageError, match="Is a directory"):
        read_regular(tmp_path, most=4)
    with pytest.raises(UsageError, match="No such file"):
        read_regular(tmp_path / "no", most=4)
    with pytest.raises(UsageError, match="null byte"):
        read_regular(tmp_path / "a\0b", most=4)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "a[b].onnx"
    path.write_bytes(b"whole")
    other = tmp_path / ".a.onnx.12345678.partial"
    other.write_bytes(b"half")
    with staged_output(path) as staged:
        staged.write_bytes(b"half")
        remove_partial(path)
        assert sorted(tmp_path.iterdir()) == [other, path]
        staged.parent.mkdir()
        staged.write_bytes(b"whole")
