"""What a worker process may take of time and memory."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

__all__ = ["Limits", "default_limits", "limit_this_process"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may take.

    Attributes:
        load_s: Seconds for starting, importing the runtime and loading the model.
        run_s: Seconds for one run.
        memory_bytes: Of address space; 0 sets no limit. Not enforced on Windows.
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
    """Bound the address space of this process, and offer it first where memory runs out.

    Args:
        memory_bytes: Of address space; 0 for no limit.
    """
    if memory_bytes and sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            memory_bytes = min(memory_bytes, most)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    if sys.platform == "linux":
        # The kernel ends the process with the highest score: the worker, and not who started it.
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:  # noqa: PTH123
                score.write("1000")
        except OSError:  # a container without /proc
            return
