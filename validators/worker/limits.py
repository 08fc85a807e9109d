"""What a worker process may take of time and memory."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

__all__ = ["Limits", "default_limits", "limit_this_process"]


_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may take.

    Attributes:
        load_s: Seconds for starting, importing the runtime and loading the model.
        run_s: Seconds for one run.
        memory_bytes: Bytes of address space; 0 sets no limit. Not enforced on Windows.
    """

    load_s: float = 300.0
    run_s: float = 300.0
    memory_bytes: int = 0


def default_limits(device: str) -> Limits:
    """Return the limits of a runtime: on a CPU, no more memory than the machine has.

    A runtime on a GPU maps more addresses than any machine has memory, and gets no limit.
    """
    if device != "cpu" or not hasattr(os, "sysconf"):
        return Limits()
    return Limits(memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def limit_this_process(memory_bytes: int) -> None:
    """Bound what this process may take, and offer it first where memory runs out.

    It leaves no core file, and ends with the process that started it.

    Args:
        memory_bytes: Bytes of address space, and of each file; 0 for no limit.
    """
    if sys.platform != "win32":
        import resource

        _lower(resource.RLIMIT_CORE, 0)
        if memory_bytes:
            _lower(resource.RLIMIT_AS, memory_bytes)
            _lower(resource.RLIMIT_FSIZE, memory_bytes)
    if sys.platform == "linux":
        # The kernel ends the process with the highest score: the worker, and not who started it.
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:  # noqa: PTH123
                score.write("1000")
        except OSError:  # a container without /proc
            pass
        _end_with_parent()


def _lower(kind: int, most: int) -> None:
    import resource

    _, allowed = resource.getrlimit(kind)
    if allowed != resource.RLIM_INFINITY:
        most = min(most, allowed)
    resource.setrlimit(kind, (most, most))


def _end_with_parent() -> None:
    """Let the kernel kill this process where its parent dies, even one that is stuck."""
    import ctypes
    import signal

    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
