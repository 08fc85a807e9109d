"""Run the matrix on one runtime after the other, and join what they found on one page.

    python tests/parity/every_runtime.py FOLDER RUNTIME... [-- PYTEST_ARGUMENT...]

Writes a JUnit file and a JSON report for each into FOLDER. Fails where one of them does, after all
of them have run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import matrix_report

__all__ = ["main"]


def main(folder: Path, runtimes: Sequence[str], arguments: Sequence[str]) -> int:
    """Return what the process exits with: that of the first run that fails, or of the page."""
    folder.mkdir(exist_ok=True)
    reports = {name: folder / f"parity-{name}.json" for name in runtimes}
    for report in reports.values():  # empty until the end: one that breaks off is missing
        report.write_text("")
    codes = []
    for name, report in reports.items():
        print(f"parity on {name}", flush=True)
        files = (f"--junit-xml={report.with_suffix('.xml')}", f"--anysize-report={report}")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "2", *files, *arguments],
            env={**os.environ, "ANYSIZE_RUNTIME": name},
            check=False,
        )
        codes.append(done.returncode)
    codes.append(matrix_report.main(folder))
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    place = names.index("--") if "--" in names else len(names)
    raise SystemExit(main(Path(folder), names[:place], names[place + 1 :]))
