"""Reports: one set of records, drawn as JSON, JUnit and a table."""

from __future__ import annotations

from anysize.validators.report.report import (
    SCHEMA_VERSION,
    Cell,
    ModelRecord,
    PackageVersion,
    ReferenceRecord,
    Report,
    RuntimeRecord,
)

__all__ = [
    "SCHEMA_VERSION",
    "Cell",
    "ModelRecord",
    "PackageVersion",
    "ReferenceRecord",
    "Report",
    "RuntimeRecord",
]
