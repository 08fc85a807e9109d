"""Reading the JSON form of a report, which `anysize.as_json` writes.

`ok` and `exit_code` are written for the reader's convenience; they follow from the cells.

A field that is added later has a default, so that reports without it stay readable; any other
change is a new schema version.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from anysize.errors import UsageError
from anysize.files import read_regular
from anysize.sizes import Size
from anysize.validators.report.joined import JoinedReport, join
from anysize.validators.report.report import SCHEMA_VERSION, Report

__all__ = ["read_report", "report_from_json"]

# A report of ten thousand cells has a tenth of it.
_MAX_BYTES = 256 << 20
_SIZES = ("size", "min_size", "max_size")

_Record = TypeVar("_Record", Report, JoinedReport)


def report_from_json(text: str, kind: type[_Record]) -> _Record:
    """Read a report back, equal to the one that was written.

    Raises:
        UsageError: The text is no report, or one of another schema version.
    """
    return _decode_as(kind, _content(text))


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
        content = json.loads(text, object_hook=_with_sizes)
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise UsageError("not a report of anysize: expected JSON with a schema_version") from exc
    if version != SCHEMA_VERSION:
        raise UsageError(f"report has schema version {version}, expected {SCHEMA_VERSION}")
    return dict(content)


def _with_sizes(entry: dict[str, Any]) -> dict[str, Any]:
    """Take apart what is written HEIGHTxWIDTH."""
    texts = {key: entry[key] for key in _SIZES if isinstance(entry.get(key), str)}
    return entry | {key: asdict(Size.parse(text)) for key, text in texts.items()}


def _decode_as(kind: type[_Record], content: dict[str, Any]) -> _Record:
    try:  # not strictly: NaN and infinity are words
        record: _Record = msgspec.convert(content, kind, strict=False)
    except (msgspec.ValidationError, UsageError) as exc:
        raise UsageError(f"not a whole report of anysize: {exc}") from exc
    _refuse_empty_green(record)
    return record


def _refuse_empty_green(record: Report | JoinedReport) -> None:
    """Refuse an entry that would count as green without anything that says so."""
    for entry in record.entries if isinstance(record, JoinedReport) else ():
        if entry.report is None and entry.exit_code == 0:
            raise UsageError(
                f"job {entry.name!r}: exit code 0 without a report, expected 1, 2 or 3"
            )
