"""List the operators that torch.onnx can translate once in a process, and without their sources.

Every call of `torch.onnx.export` asks onnxscript for all of its 500 functions, and onnxscript
reads and parses the source of each to learn a name that torch.onnx has no use for: 0.9 s of a
ResNet-18's 2.6 s (torch 2.13, onnxscript 0.7). The signatures of these functions, which make a
registry, and the composite operators of PyTorch are looked up anew as well, which takes half of
the time of a small network.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["TranslatedOperator", "operators_listed_once"]

_REGISTRATION = "torch.onnx._internal.exporter._registration"


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


def _with_apis(registration: Any) -> _Apis:
    return _Apis(registration.onnxscript_apis)


def _with_registry(registry: Any) -> Callable[..., Any]:
    """Make each registry of an opset a copy of the first: an export adds its own functions."""
    made = functools.cache(registry.from_torchlib)

    def from_torchlib(*opset: Any, **named: Any) -> Any:
        first, copy = made(*opset, **named), registry()
        copy.__dict__.update(first.__dict__)
        copy.functions = {target: [*found] for target, found in first.functions.items()}
        return copy

    return staticmethod(from_torchlib)


def _with_composites(utils: Any) -> Callable[[], None]:
    """Look for composite operators only where others have been registered since the last time."""
    look, known = utils._materialize_cpp_cia_ops, set[str]()  # noqa: SLF001

    def look_again() -> None:
        registered = torch._C._dispatch_get_registrations_for_dispatch_key(  # noqa: SLF001
            "CompositeImplicitAutograd"
        )
        if not known.issuperset(registered):
            look()
            known.update(registered)

    return look_again


# Module, what of it is replaced, in which of its classes, and by what.
_KEPT: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    (_REGISTRATION, "", "onnxscript_apis", _with_apis),
    (_REGISTRATION, "ONNXRegistry", "from_torchlib", _with_registry),
    ("torch._export.utils", "", "_materialize_cpp_cia_ops", _with_composites),
)


@functools.cache
def _replacements() -> tuple[tuple[Any, str, Any], ...]:
    """Find what is replaced; a place that a version of PyTorch does not have is left out."""
    found = []
    for module, owner, name, make in _KEPT:
        with contextlib.suppress(ImportError, AttributeError):
            place = importlib.import_module(module)
            place = getattr(place, owner) if owner else place
            getattr(place, name)
            found.append((place, name, make(place)))
    return tuple(found)


@contextlib.contextmanager
def operators_listed_once() -> Iterator[None]:
    """While active, torch.onnx takes the list of functions from the first time.

    The places are internal to PyTorch; where a version does not have one, it is not changed.
    """
    with contextlib.ExitStack() as stack:
        for place, name, kept in _replacements():
            stack.callback(setattr, place, name, vars(place)[name])
            setattr(place, name, kept)
        yield
