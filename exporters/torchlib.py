"""List the operators that torch.onnx can translate once in a process, not once for each trace.

Every call of `torch.onnx.export` asks onnxscript for all of its 400 functions, each of which reads
and parses its own source again: 0.9 s of a ResNet-18's 2.6 s (torch 2.13, onnxscript 0.7).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from typing import Any

__all__ = ["operators_listed_once"]


class _Apis:
    """onnxscript's interface to torch.onnx, with the list of its functions kept."""

    def __init__(self, apis: Any) -> None:
        self._apis = apis

    @functools.cached_property
    def get_torchlib_ops(self) -> Any:
        """Return a function that makes the list at its first call."""
        return functools.cache(self._apis.get_torchlib_ops)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._apis, name)


@functools.cache
def _kept(registration: Any) -> _Apis:
    return _Apis(registration.onnxscript_apis)


@contextlib.contextmanager
def operators_listed_once() -> Iterator[None]:
    """While active, torch.onnx takes the list of functions from the first time.

    The place is internal to PyTorch; where a version does not have it, nothing is changed.
    """
    try:
        registration: Any = importlib.import_module("torch.onnx._internal.exporter._registration")
        apis, kept = registration.onnxscript_apis, _kept(registration)
        kept.get_torchlib_ops  # noqa: B018 - raises where there is none
    except (ImportError, AttributeError):
        yield
        return
    registration.onnxscript_apis = kept
    try:
        yield
    finally:
        registration.onnxscript_apis = apis
