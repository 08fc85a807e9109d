"""Runtimes in a process of their own, so that whatever they do ends in a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.lazy import lazy_names

if TYPE_CHECKING:
    from anysize.validators.worker.forked import ForkedWorker, can_fork
    from anysize.validators.worker.isolated import IsolatedRuntime, IsolatedSession
    from anysize.validators.worker.known import (
        RuntimeInfo,
        get_runtime,
        list_runtimes,
        parse_runtimes,
        set_up_runtime,
    )
    from anysize.validators.worker.limits import Limits, default_limits
    from anysize.validators.worker.process import Worker
    from anysize.validators.worker.shared import SharedWorker

__all__ = [
    "ForkedWorker",
    "IsolatedRuntime",
    "IsolatedSession",
    "Limits",
    "RuntimeInfo",
    "SharedWorker",
    "Worker",
    "can_fork",
    "default_limits",
    "get_runtime",
    "list_runtimes",
    "parse_runtimes",
    "set_up_runtime",
]

# The worker itself imports its own end alone.
__getattr__ = lazy_names(
    __name__,
    {
        "forked": ("ForkedWorker", "can_fork"),
        "isolated": ("IsolatedRuntime", "IsolatedSession"),
        "known": (
            "RuntimeInfo",
            "get_runtime",
            "list_runtimes",
            "parse_runtimes",
            "set_up_runtime",
        ),
        "limits": ("Limits", "default_limits"),
        "process": ("Worker",),
        "shared": ("SharedWorker",),
    },
)
