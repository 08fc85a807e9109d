"""Weights beside a model are written as if the model held them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from anysize.errors import ModelFileError, UsageError
from anysize.exporters import ExportSpec, export_module
from anysize.models import resolve
from anysize.sizes import Size
from anysize.surgery import HeldWeights, load_model, rewrite, save_model
from anysize.surgery.storage.payloads import locate
from anysize.surgery.storage.tensors import Place, is_loaded, place_of
from anysize.surgery.storage.weightless import check


@pytest.fixture(scope="module")
def exported():
    source = resolve("digits", head="fc")
    spec = ExportSpec("digits", "fc", source.channels, source.classes, source.training_size)
    return export_module(source.module, spec)


def weights(model, folder):
    return {
        tensor.name: numpy_helper.to_array(tensor, base_dir=str(folder))
        for tensor in model.graph.initializer
    }


def same(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert np.array_equal(array, second[name]), name


def test_a_held_weight_is_neither_loaded_nor_in_a_file(exported):
    tensors = exported.model.graph.initializer
    held = [tensor for tensor in tensors if place_of(tensor) is Place.BESIDE]
    assert held
    for tensor in held:
        assert not is_loaded(tensor)
        assert not tensor.raw_data
    check(exported.model)


@pytest.mark.parametrize("external_data", ["auto", "always", "never"])
def test_held_weights_are_written(exported, tmp_path, external_data):
    path = tmp_path / "out.onnx"
    save_model(exported.model, path, source=exported.weights, external_data=external_data)
    assert (tmp_path / "out.onnx.data").exists() == (external_data == "always")
    read = onnx.load(path, load_external_data=False)
    same(weights(exported.loaded(), tmp_path), weights(read, tmp_path))
    assert not any(entry.key.startswith("anysize") for t in read.graph.initializer
                   for entry in t.external_data)  # fmt: skip
    load_model(path)


def test_loaded_leaves_the_model_as_it_was(exported):
    before = exported.model.SerializeToString()
    assert all(map(is_loaded, exported.loaded().graph.initializer))
    assert exported.model.SerializeToString() == before


def test_a_rewrite_of_held_weights_is_that_of_loaded_ones(exported, tmp_path):
    size = Size(32, 32)
    loaded = rewrite(exported.loaded(), size=size).model
    held = rewrite(exported.model, size=size, source=exported.weights).model
    save_model(loaded, tmp_path / "loaded.onnx")
    save_model(held, tmp_path / "held.onnx", source=exported.weights)
    assert (tmp_path / "loaded.onnx").read_bytes() == (tmp_path / "held.onnx").read_bytes()


def test_held_weights_need_their_holder(exported, tmp_path):
    with pytest.raises(UsageError, match="is not in memory"):
        save_model(exported.model, tmp_path / "out.onnx")
    with pytest.raises(ModelFileError, match="its holder is gone"):
        save_model(exported.model, tmp_path / "out.onnx", source=tmp_path / "other.onnx")
    assert not list(tmp_path.iterdir())


def test_an_array_of_another_size_is_refused():
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[3, 4])
    held = HeldWeights()
    held.hold(tensor, ir.Tensor(np.zeros((3, 5), np.float32)))
    with pytest.raises(ModelFileError, match="'w': holds 60 bytes, expected 48"):
        locate(tensor, held)


def test_small_arrays_are_not_held():
    held = HeldWeights()
    small, large = onnx.TensorProto(), onnx.TensorProto()
    held.set_data(small, np.arange(6, dtype=np.float16).reshape(2, 3))
    held.set_data(large, np.ones((300, 200), np.float16))
    assert is_loaded(small)
    assert place_of(large) is Place.BESIDE
    assert np.array_equal(numpy_helper.to_array(small), [[0, 1, 2], [3, 4, 5]])
    assert np.array_equal(held.array(large), np.ones((300, 200)))
