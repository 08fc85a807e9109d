"""Whatever ends the program between two files, each model has its own weights."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

import anysize
from anysize.surgery import load_model, save_model

ENDED = 9


def arrays(path):
    model = onnx.load(path)  # onnx's own reader is the judge
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def is_same(found, expected):
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], array) for name, array in expected.items()
    )


def ended_at(step, work):
    """Do some work in another process, which ends when it renames or removes its `step`th file."""

    def run():
        left = [step]

        def ending(before):
            def do(self, *arguments, **options):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(ENDED)
                return before(self, *arguments, **options)

            return do

        Path.replace, Path.unlink = ending(Path.replace), ending(Path.unlink)
        work()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(120)
    return process.exitcode == ENDED


@pytest.fixture
def two(kit, tmp_path):
    """A model with its weights beside it, and one of other weights that is to replace it."""
    old, new = kit.plain(), kit.plain()
    for tensor in new.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array + 1, tensor.name))
    path = tmp_path / "m.onnx"
    save_model(old, path, external_data="always")
    return path, new


def test_a_program_that_ends_while_it_writes_leaves_one_of_the_two_models(two):
    path, new = two
    before, after = (
        arrays(path),
        {t.name: onnx.numpy_helper.to_array(t) for t in new.graph.initializer},
    )
    found = []
    while ended_at(len(found), lambda: save_model(new, path, external_data="always")):
        now = arrays(path)
        assert is_same(now, before) or is_same(now, after)
        found.append(is_same(now, after))
        assert len(found) < 9
    assert found[0] is False
    assert found[-1] is True, "the old weights were not removed last"
    assert is_same(arrays(path), after)


def test_a_rewrite_in_place_that_ends_leaves_a_model_that_runs(tmp_path):
    path, kept = tmp_path / "work" / "lenet.onnx", tmp_path / "kept"
    path.parent.mkdir()
    anysize.export("lenet", path, head="fc", external_data="always", verify=False)
    shutil.copytree(path.parent, kept)
    expected = arrays(path)
    weights = [name for name, array in expected.items() if array.size > 100]
    for step in range(6):
        shutil.rmtree(path.parent)
        shutil.copytree(kept, path.parent)
        has_ended = ended_at(step, lambda: anysize.rewrite(path, path, verify=False))
        found = arrays(path)
        for name in weights:
            assert np.array_equal(found[name].ravel(), expected[name].ravel()), (step, name)
        if not has_ended:
            break
    assert not has_ended


def test_nothing_is_left_of_the_model_before(two):
    path, new = two
    for _ in range(3):
        save_model(new, path, external_data="always")
        assert len(list(path.parent.iterdir())) == 2
    save_model(new, path, external_data="never")
    assert list(path.parent.iterdir()) == [path]


def test_weights_that_another_model_names_stay(two):
    path, new = two
    other = path.with_name("other.onnx")
    shutil.copy(path, other)
    before = arrays(other)
    save_model(new, path, external_data="always")
    assert is_same(arrays(other), before)


def test_weights_stay_where_a_model_cannot_be_read(two):
    path, new = two
    path.with_name("broken.onnx").write_bytes(b"\x08")
    save_model(new, path, external_data="always")
    assert path.with_name("m.onnx.data").exists()


def test_weights_of_somebody_else_stay(kit, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(kit.plain(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    save_model(load_model(path), path, source=path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data", "w.bin"]
