"""What a validation runs on: processor, cores, and the versions of what is installed."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib import metadata
from pathlib import Path

from anysize.validators.report import PackageVersion
from anysize.words import cleaned

__all__ = ["machine", "package_versions", "usable_cpus"]

_PACKAGES = (
    "anysize",
    "iree-base-compiler",
    "iree-base-runtime",
    "mnn",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
    "tract",
)


def usable_cpus() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> str:
    """Name the system, the architecture and the processor, as far as they are known."""
    found = [platform.system(), platform.machine()]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = (line.partition(":")[2] for line in lines if line.startswith("model name"))
        found.append(cleaned(next(models, "")))
    return ", ".join(filter(None, found))


def package_versions() -> tuple[PackageVersion, ...]:
    """Return the versions of the packages that may change a number in a report."""
    found = []
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(PackageVersion(package, metadata.version(package)))
    return tuple(found)
