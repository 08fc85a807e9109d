"""The list of translated operators is onnxscript's own, made without parsing its functions."""

from __future__ import annotations

import importlib

import pytest
import torch

from anysize.exporters.tracing.translations import _with_composites, operators_listed_once

registration = importlib.import_module("torch.onnx._internal.exporter._registration")


def test_the_list_is_the_one_that_onnxscript_makes():
    slow = registration.onnxscript_apis.get_torchlib_ops()
    with operators_listed_once():
        fast = registration.onnxscript_apis.get_torchlib_ops()
        again = registration.onnxscript_apis.get_torchlib_ops()
    entries = [
        [(entry.qualified_name, entry.function, entry.is_complex) for entry in entries]
        for entries in (slow, fast)
    ]
    assert len(entries[0]) > 300
    assert entries[0] == entries[1]
    assert again is fast
    assert registration.onnxscript_apis.get_torchlib_ops() is not fast


def test_a_version_that_keeps_its_registry_elsewhere_is_asked_for_the_list(monkeypatch):
    library = importlib.import_module("onnxscript.function_libs.torch_lib.registration")
    monkeypatch.delattr(library, "default_registry")
    torchlib = importlib.import_module("anysize.exporters.tracing.translations")

    class Apis:
        @staticmethod
        def get_torchlib_ops():
            return ["the slow list"]

    assert torchlib._listed(Apis) == ["the slow list"]


def test_the_list_is_put_back_after_an_error():
    before = registration.onnxscript_apis
    with pytest.raises(KeyError), operators_listed_once():
        raise KeyError
    assert registration.onnxscript_apis is before


def test_an_export_registers_its_functions_in_a_copy():
    with operators_listed_once():
        make = registration.ONNXRegistry.from_torchlib
        first, second = make(opset_version=18), make(opset_version=18)
        other = make(opset_version=21)
    slow = registration.ONNXRegistry.from_torchlib(opset_version=18)
    assert first is not second
    assert list(first.functions) == list(slow.functions)
    assert all(
        [one.onnx_function for one in found]
        == [one.onnx_function for one in slow.functions[target]]
        for target, found in first.functions.items()
    )
    assert (first.opset_version, other.opset_version) == (18, 21)
    target = next(iter(first.functions))
    first.register_op(target, lambda x: x)
    assert len(first.functions[target]) == len(second.functions[target]) + 1


def test_composite_operators_are_looked_for_where_there_are_new_ones(monkeypatch):
    utils = importlib.import_module("torch._export.utils")
    looked = []
    monkeypatch.setattr(utils, "_materialize_cpp_cia_ops", lambda: looked.append(1))
    look = _with_composites(utils)
    look()
    look()
    assert looked == [1]
    library = torch.library.Library("anysize_test", "DEF")
    library.define("same(Tensor x) -> Tensor")
    library.impl("same", lambda x: x.clone(), "CompositeImplicitAutograd")
    look()
    assert looked == [1, 1]
