"""The forms of a report: name → what writes it, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from anysize.lazy import load

__all__ = ["FORMATS", "read_json", "written"]

_ROOM = "anysize.validators.report"
# Each takes one report or several in one.
FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "json": f"{_ROOM}.json_format:report_to_json",
        "junit": f"{_ROOM}.junit:to_junit",
        "markdown": f"{_ROOM}.markdown:to_markdown",
        "html": f"{_ROOM}.page:to_html",
    }
)
_READER = f"{_ROOM}.json_format:report_from_json"

_Record = TypeVar("_Record")


def written(form: str, report: object) -> str:
    """Write a report, or several in one, in a form of the table."""
    return str(load(FORMATS[form])(report))


def read_json(text: str, kind: type[_Record]) -> _Record:
    """Read a report of this kind back.

    Raises:
        UsageError: The text is none.
    """
    report: _Record = load(_READER)(text, kind)
    return report
