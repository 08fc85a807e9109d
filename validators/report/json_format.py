"""The JSON form of a report: sorted keys, nothing but measured times changes between two runs.

Records are objects with the names of their fields, sizes are `"HEIGHTxWIDTH"`, and numbers that
JSON does not have are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`. `ok` and `exit_code` are
written for the reader's convenience; they follow from the cells.

A field that is added later has a default, so that reports without it stay readable; any other
change is a new schema version.
"""

from __future__ import annotations

import json
import math
import re
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

__all__ = ["encoded", "json_text", "read_report", "report_from_json", "report_to_json"]

# A report of ten thousand cells has a tenth of it.
_MAX_BYTES = 256 << 20
_EXIT_CODES = (0, 1, 2, 3)
# A terminal obeys them, and JSON does not escape them by itself: control characters of eight bits,
# and marks that turn the direction of writing.
_UNSAFE = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_Record = TypeVar("_Record", Report, JoinedReport)


def report_to_json(report: Report | JoinedReport) -> str:
    """Write a report, or several in one."""
    return json_text(encoded(report))


def json_text(content: object) -> str:
    """Write what `encoded` returned, without what a terminal could trip over."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return _UNSAFE.sub(lambda letter: f"\\u{ord(letter[0]):04x}", text)


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


def encoded(value: Any) -> Any:
    """Turn records into what JSON has: objects, arrays, texts and numbers."""
    if isinstance(value, Size):
        return str(value)
    if is_dataclass(value):
        content = {field.name: encoded(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, (Report, JoinedReport)):
            content |= {"ok": value.ok, "exit_code": value.exit_code}
        return content
    if isinstance(value, tuple):
        return [encoded(entry) for entry in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


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
