"""Reports: one set of records, drawn as JSON, JUnit, Markdown, an HTML page and a table."""

from __future__ import annotations

from anysize.validators.report.diagnosis import Culprit, Diagnosis
from anysize.validators.report.joined import Entry, JoinedReport, join
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
    "Culprit",
    "Diagnosis",
    "Entry",
    "JoinedReport",
    "ModelRecord",
    "PackageVersion",
    "ReferenceRecord",
    "Report",
    "RuntimeRecord",
    "join",
]
