"""What this process has used, for the measurements in this folder: memory and processor time."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

__all__ = ["cpu_s", "peak_mib"]

_STATUS = Path("/proc/self/status")


def peak_mib() -> int:
    """Return the peak resident memory of this process in MiB.

    `getrusage` would count what the parent held when it forked; `VmHWM` begins with the program.
    """
    if _STATUS.exists():
        line = next(row for row in _STATUS.read_text().splitlines() if row.startswith("VmHWM:"))
        return round(int(line.split()[1]) / 2**10)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def cpu_s() -> float:
    """Return the processor time of this process and of all that it has started."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ended = sum(one.ru_utime + one.ru_stime for one in used)
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = status.read_text().rpartition(")")[2].split()
            ticks += (int(fields[11]) + int(fields[12])) * (int(fields[1]) == os.getpid())
    return ended + ticks / os.sysconf("SC_CLK_TCK")
