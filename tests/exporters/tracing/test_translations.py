"""The list of translated operators is onnxscript's own, made without parsing its functions."""

from __future__ import annotations

import importlib

import pytest

from anysize.exporters.tracing.translations import operators_listed_once

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
