"""List the operators that torch.onnx can translate once in a process, and without their sources.

Every call of `torch.onnx.export` asks onnxscript for all of its 500 functions, and onnxscript
reads and parses the source of each to learn a name that torch.onnx has no use for: 0.9 s of a
ResNet-18's 2.6 s (torch 2.13, onnxscript 0.7).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["TranslatedOperator", "operators_listed_once"]


@dataclass(frozen=True, slots=True)
class TranslatedOperator:
    """What torch.onnx reads of an entry in onnxscript's list.

    Attributes:
        qualified_name: The operator: `aten::relu`.
        function: Writes it in ONNX.
        is_complex: Whether the function is for complex numbers.
    """

    qualified_name: str
    function: Callable[..., Any]
    is_complex: bool


def _listed(apis: Any) -> list[Any]:
    """Read onnxscript's registry; where a version keeps it otherwise, ask for the slow list."""
    library = "onnxscript.function_libs.torch_lib"
    try:
        importlib.import_module(f"{library}.ops")  # fills the registry
        registry: Any = importlib.import_module(f"{library}.registration").default_registry
        return [
            TranslatedOperator(name, function, is_complex)
            for name, overloads in registry.items()
            if not name.startswith("internal::")
            for functions, is_complex in ((overloads.overloads, False), (overloads.complex, True))
            for function in functions
        ]
    except (ImportError, AttributeError):
        return list(apis.get_torchlib_ops())


class _Apis:
    """onnxscript's interface to torch.onnx, with the list of its functions kept."""

    def __init__(self, apis: Any) -> None:
        self._apis = apis

    @functools.cached_property
    def get_torchlib_ops(self) -> Callable[[], list[Any]]:
        """Return a function that makes the list at its first call."""
        return functools.cache(functools.partial(_listed, self._apis))

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
    except (ImportError, AttributeError):
        yield
        return
    registration.onnxscript_apis = kept
    try:
        yield
    finally:
        registration.onnxscript_apis = apis
