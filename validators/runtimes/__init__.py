"""Runtimes that a graph can be validated on, by name; each is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anysize.errors import UsageError
from anysize.validators.runtimes.protocol import (
    Availability,
    Provenance,
    ProviderUse,
    Runtime,
    Session,
    TimedSession,
)

if TYPE_CHECKING:
    from anysize.validators.worker import Limits

__all__ = [
    "RUNTIMES",
    "Availability",
    "Provenance",
    "ProviderUse",
    "Runtime",
    "RuntimeEntry",
    "RuntimeInfo",
    "Session",
    "TimedSession",
    "get_runtime",
    "list_runtimes",
    "parse_runtimes",
]


@dataclass(frozen=True, slots=True)
class RuntimeEntry:
    """Where a runtime lives, and what installs it.

    Attributes:
        target: `module:Class`, imported only when the runtime is asked for.
        extra: The extra of anysize that installs it; "" where the core dependencies do.
        text: What it is, in a few words.
        isolated: Whether it runs in a worker process: it can crash, hang, or do something at
            import that does not belong in the caller's process.
    """

    target: str
    extra: str
    text: str
    isolated: bool = False


RUNTIMES: dict[str, RuntimeEntry] = {
    "ort-cpu": RuntimeEntry(
        "anysize.validators.runtimes.ort_cpu:OrtCpu", "", "ONNX Runtime, CPU provider only"
    ),
    "onnx-reference": RuntimeEntry(
        "anysize.validators.runtimes.onnx_reference:OnnxReferenceRuntime",
        "",
        "the ONNX specification's own evaluator, in NumPy",
    ),
    "openvino": RuntimeEntry(
        "anysize.validators.runtimes.openvino:OpenVino",
        "openvino",
        "OpenVINO, CPU plugin, float32",
        isolated=True,
    ),
    "tract": RuntimeEntry(
        "anysize.validators.runtimes.tract:Tract",
        "tract",
        "tract, in Rust, one thread",
        isolated=True,
    ),
}


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """One line of `anysize runtimes`.

    Attributes:
        name: The word for `--runtimes`.
        text: What it is.
        device: What it computes on.
        profile: Its error profile.
        version: Of the installed package; "" where it is not available.
        is_available: Whether it can run here.
        reason: Why not.
        install: The command that installs it; "" where it is available.
    """

    name: str
    text: str
    device: str
    profile: str
    version: str
    is_available: bool
    reason: str
    install: str


def get_runtime(name: str, *, limits: Limits | None = None) -> Runtime:
    """Return the runtime of that name; it may still be unavailable here.

    Args:
        name: A key of `RUNTIMES`.
        limits: Of its worker process, where it is isolated; None for the default ones.

    Raises:
        UsageError: There is none of that name.
    """
    entry = RUNTIMES.get(name)
    if entry is None:
        raise UsageError(f"runtime {name!r}: unknown; known are {', '.join(RUNTIMES)}")
    module, _, attribute = entry.target.partition(":")
    runtime = getattr(importlib.import_module(module), attribute)()
    if not isinstance(runtime, Runtime):
        raise TypeError(f"runtime {name!r}: {entry.target} is not a Runtime")
    if entry.isolated:
        from anysize.validators.worker import IsolatedRuntime, Limits

        return IsolatedRuntime(runtime, entry.target, limits=limits or Limits())
    return runtime


def parse_runtimes(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of runtimes, without repeats; `all` is every one that runs here.

    Raises:
        UsageError: The list is empty or a name is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"runtimes {text!r}: expected a list such as {','.join(RUNTIMES)}")
    found: list[str] = []
    for name in names:
        if name == "all":
            found.extend(info.name for info in list_runtimes() if info.is_available)
        elif name in RUNTIMES:
            found.append(name)
        else:
            raise UsageError(f"runtime {name!r}: unknown; known are {', '.join(RUNTIMES)}, or all")
    return tuple(dict.fromkeys(found))


def list_runtimes(names: Iterable[str] | None = None) -> tuple[RuntimeInfo, ...]:
    """Tell for each runtime whether it can run here, and where it cannot, why and what to do."""
    return tuple(_info(name) for name in (RUNTIMES if names is None else names))


def _info(name: str) -> RuntimeInfo:
    entry, runtime = RUNTIMES[name], get_runtime(name)
    availability = runtime.availability()
    package = f"anysize[{entry.extra}]" if entry.extra else "anysize"
    return RuntimeInfo(
        name=name,
        text=entry.text,
        device=runtime.device,
        profile=runtime.profile,
        version=runtime.version() if availability.is_available else "",
        is_available=availability.is_available,
        reason=availability.reason,
        install="" if availability.is_available else f"pip install '{package}'",
    )
