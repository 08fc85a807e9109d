"""The JSON form of a report: sorted keys, nothing but measured times changes between two runs.

Records are objects with the names of their fields, sizes are `"HEIGHTxWIDTH"`, and numbers that
JSON does not have are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`. `ok` and `exit_code` are
written for the reader's convenience; they follow from the cells.
"""

from __future__ import annotations

import json
import math
import types
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from anysize.errors import UsageError
from anysize.sizes import Size
from anysize.validators.report.report import SCHEMA_VERSION, Report

__all__ = ["report_from_json", "report_to_json"]


def report_to_json(report: Report) -> str:
    """Write a report."""
    content = _encode(report)
    content["ok"] = report.ok
    content["exit_code"] = report.exit_code
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)


def report_from_json(text: str) -> Report:
    """Read a report back, equal to the one that was written.

    Raises:
        UsageError: The text is no report, or one of another schema version.
    """
    try:
        content = json.loads(text)
        version = content["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise UsageError("not a report of anysize: expected JSON with a schema_version") from exc
    if version != SCHEMA_VERSION:
        raise UsageError(f"report has schema version {version}, expected {SCHEMA_VERSION}")
    try:
        report = _decode(Report, content)
    except (KeyError, TypeError, ValueError, UsageError) as exc:
        raise UsageError(f"not a whole report of anysize: {exc!r} is missing or wrong") from exc
    assert isinstance(report, Report)
    return report


def _encode(value: Any) -> Any:
    if isinstance(value, Size):
        return str(value)
    if is_dataclass(value):
        return {field.name: _encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_encode(entry) for entry in value]
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
        return kind(**{f.name: _decode(hints[f.name], value[f.name]) for f in fields(kind)})
    if isinstance(kind, type) and issubclass(kind, (Enum, float)):
        return kind(value)
    if not isinstance(value, kind):
        raise TypeError(value)
    return value
