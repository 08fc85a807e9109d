"""The most memory that this process has held, for the measurements in this folder."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["peak_mib"]

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
