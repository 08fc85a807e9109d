"""The JSON Schema of reports, read off the records themselves, so that it cannot disagree."""

from __future__ import annotations

import inspect
import re
import types
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from anysize.sizes import Size
from anysize.validators.report.joined import JoinedReport
from anysize.validators.report.report import SCHEMA_VERSION, Report

__all__ = ["report_schema"]

_FIELD = re.compile(r"^    (\w+): (.*)$")
_FOLLOWS = {
    "ok": {"type": "boolean", "description": "Whether the exit code is 0."},
    "exit_code": {"enum": [0, 1, 2, 3], "description": "It follows from the cells."},
}
_PLAIN: dict[type, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]},
}


def report_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema, draft 2020-12) of what `--json` writes.

    A file holds one report, or `entries` with several. Descriptions are those of the records.
    """
    definitions: dict[str, Any] = {}
    kinds = [_schema(kind, definitions) for kind in (Report, JoinedReport)]
    for kind in (Report, JoinedReport):
        record = definitions[kind.__name__]
        record["properties"] |= {**_FOLLOWS, "schema_version": {"const": SCHEMA_VERSION}}
        record["required"] = sorted({*record["required"], *_FOLLOWS, "schema_version"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Report of anysize, schema version {SCHEMA_VERSION}",
        "anyOf": kinds,
        "$defs": definitions,
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {
            "anyOf": [
                {"type": "null"} if one is types.NoneType else _schema(one, definitions)
                for one in arguments
            ]
        }
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if kind is Size:
        return {"type": "string", "pattern": "^[0-9]+x[0-9]+$"}
    if kind in _PLAIN:
        return _PLAIN[kind]
    if issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    assert is_dataclass(kind), kind
    name = str(getattr(kind, "__name__", kind))
    if name not in definitions:
        definitions[name] = {}  # against endless recursion
        definitions[name] = _record(kind, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _record(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, texts = get_type_hints(kind), _descriptions(kind)
    properties = {}
    for field in fields(kind):
        text = texts.get(field.name)
        properties[field.name] = _schema(hints[field.name], definitions) | (
            {"description": text} if text else {}
        )
    return {
        "type": "object",
        "description": (inspect.getdoc(kind) or "").partition("\n")[0],
        "properties": properties,
        # A field with a default came later; older reports lack it.
        "required": sorted(f.name for f in fields(kind) if f.default is MISSING),
    }


def _descriptions(kind: type) -> dict[str, str]:
    """Read the attributes' texts from a docstring in Google form."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if found := _FIELD.match(line):
            name = found[1]
            texts[name] = found[2]
        elif name and line.startswith("        "):
            texts[name] += f" {line.strip()}"
        else:
            break
    return texts
