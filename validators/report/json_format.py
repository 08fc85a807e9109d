"""Reading the JSON form of a report, which `anysize.as_json` writes.

`ok` and `exit_code` are written for the reader's convenience; they follow from the cells.

A field that is added later has a default, so that reports without it stay readable; any other
change is a new schema version.
"""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from anysize.errors import UsageError
from anysize.files import read_regular
from anysize.sizes import Size
from anysize.validators.report.joined import Entry, JoinedReport, join
from anysize.validators.report.report import SCHEMA_VERSION, Report

__all__ = ["read_report", "report_from_json"]

# A report of ten thousand cells has a tenth of it.
_MAX_BYTES = 256 << 20
_EXIT_CODES = (0, 1, 2, 3)

_Record = TypeVar("_Record", Report, JoinedReport)


def report_from_json(text: str, kind: type[_Record]) -> _Record:
    """Read a report back, equal to the one that was written.

    Raises:
        UsageError: The text is no report, or one of another schema version.
    """
    report = _decode_as(kind, _content(text))
    assert isinstance(report, kind)
    return report


def read_report(path: Path) -> JoinedReport:
    """Read a file that holds one report or several.

    Raises:
        UsageError: It cannot be read, is no regular file, too large, no report, or one of another
            schema version.
    """
    try:
        content = _content(read_regular(path, most=_MAX_BYTES).decode())
        if "entries" in content:
            return _decode_as(JoinedReport, content)
        return join((_decode_as(Report, content),))
    except UnicodeDecodeError as exc:
        raise UsageError(f"report {path}: is not text; give a file that --json wrote") from exc
    except UsageError as exc:
        raise UsageError(f"report {path}: {exc}; give a file that --json wrote") from exc


def _content(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise UsageError("not a report of anysize: expected JSON with a schema_version") from exc
    if version != SCHEMA_VERSION:
        raise UsageError(f"report has schema version {version}, expected {SCHEMA_VERSION}")
    return dict(content)


def _decode_as(kind: type[_Record], content: dict[str, Any]) -> _Record:
    try:
        record: _Record = _decode(kind, content)
    except (KeyError, TypeError, ValueError, UsageError) as exc:
        raise UsageError(f"not a whole report of anysize: {exc!r} is missing or wrong") from exc
    if isinstance(record, JoinedReport):
        for entry in record.entries:
            _check_exit_code(entry)
    return record


def _check_exit_code(entry: Entry) -> None:
    """Refuse an entry that would count as green without anything that says so."""
    if entry.exit_code not in _EXIT_CODES:
        raise UsageError(f"job {entry.name!r}: exit code {entry.exit_code}, expected 0, 1, 2 or 3")
    if entry.report is None and entry.exit_code == 0:
        raise UsageError(f"job {entry.name!r}: exit code 0 without a report, expected 1, 2 or 3")


def _decode(kind: Any, value: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _decode(next(a for a in arguments if a is not types.NoneType), value)
    if origin is tuple:
        return tuple(_decode(arguments[0], entry) for entry in value)
    if kind is Size:
        return Size.parse(value)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        given = [f for f in fields(kind) if f.name in value or f.default is MISSING]
        return kind(**{f.name: _decode(hints[f.name], value[f.name]) for f in given})
    if isinstance(kind, type) and issubclass(kind, (Enum, float)):
        return kind(value)
    if not isinstance(value, kind):
        raise TypeError(value)
    return value
