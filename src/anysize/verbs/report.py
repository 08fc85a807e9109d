"""Join reports that were written before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anysize.validators import JoinedReport

__all__ = ["report"]


def report(*paths: Path | str) -> JoinedReport:
    """Read reports and put them beside each other.

    Args:
        *paths: Files that `--json` or `to_json` wrote, of one report or several.

    Raises:
        UsageError: One cannot be read, or is no report.
    """
    from anysize.validators.report import join, read_report

    return join([read_report(Path(path)) for path in paths])
