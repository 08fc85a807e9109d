"""The JSON Schema of reports, made of the records themselves, so that it cannot disagree."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import msgspec

from anysize.validators.report.joined import JoinedReport
from anysize.validators.report.report import SCHEMA_VERSION, Report

__all__ = ["report_schema"]

_FIELD = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_FOLLOWS = {
    "ok": {"type": "boolean", "description": "Whether the exit code is 0."},
    "exit_code": {"enum": [0, 1, 2, 3], "description": "It follows from the cells."},
}
# What `anysize.as_json` writes otherwise than msgspec.
_SIZE = {"type": "string", "pattern": "^[0-9]+x[0-9]+$"}
_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def report_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema, draft 2020-12) of what `--json` writes.

    A file holds one report, or `entries` with several. Descriptions are those of the records.
    """
    kinds, found = msgspec.json.schema_components(
        (Report, JoinedReport), ref_template="#/$defs/{name}"
    )
    definitions = json.loads(json.dumps(dict(found)), object_hook=_as_written) | {"Size": _SIZE}
    for record in definitions.values():
        text = inspect.cleandoc(record.get("description", ""))  # older versions do not
        record["description"], _, attributes = text.partition("\n")
        for name, words in _FIELD.findall(attributes):
            record["properties"][name]["description"] = " ".join(words.split())
    for kind in (Report, JoinedReport):
        record = definitions[kind.__name__]
        record["properties"] |= {**_FOLLOWS, "schema_version": {"const": SCHEMA_VERSION}}
        record["required"] += [*_FOLLOWS, "schema_version"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Report of anysize, schema version {SCHEMA_VERSION}",
        "anyOf": list(kinds),
        "$defs": definitions,
    }


def _as_written(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") != "number":
        return schema
    return {key: value for key, value in schema.items() if key != "type"} | _NUMBER
