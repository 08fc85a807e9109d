"""Reports: one set of records, drawn as JSON, JUnit, Markdown, an HTML page and a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.lazy import lazy_names

if TYPE_CHECKING:
    from anysize.validators.report.diagnosis import Culprit, Diagnosis
    from anysize.validators.report.drawing import Plot, line_plot
    from anysize.validators.report.joined import Entry, JoinedReport, join
    from anysize.validators.report.json_format import read_report
    from anysize.validators.report.page import require_jinja
    from anysize.validators.report.report import (
        SCHEMA_VERSION,
        Cell,
        ModelRecord,
        PackageVersion,
        QuantisationRecord,
        ReferenceRecord,
        Report,
        RuntimeRecord,
    )
    from anysize.validators.report.schema import report_schema
    from anysize.validators.report.story import needed_atol, tolerance_text
    from anysize.validators.report.table import joined_table

__all__ = [
    "SCHEMA_VERSION",
    "Cell",
    "Culprit",
    "Diagnosis",
    "Entry",
    "JoinedReport",
    "ModelRecord",
    "PackageVersion",
    "Plot",
    "QuantisationRecord",
    "ReferenceRecord",
    "Report",
    "RuntimeRecord",
    "join",
    "joined_table",
    "line_plot",
    "needed_atol",
    "read_report",
    "report_schema",
    "require_jinja",
    "tolerance_text",
]

__getattr__ = lazy_names(
    __name__,
    {
        "diagnosis": ("Culprit", "Diagnosis"),
        "report": (
            "SCHEMA_VERSION",
            "Cell",
            "ModelRecord",
            "PackageVersion",
            "QuantisationRecord",
            "ReferenceRecord",
            "Report",
            "RuntimeRecord",
        ),
        "drawing": ("Plot", "line_plot"),
        "joined": ("Entry", "JoinedReport", "join"),
        "json_format": ("read_report",),
        "page": ("require_jinja",),
        "schema": ("report_schema",),
        "story": ("needed_atol", "tolerance_text"),
        "table": ("joined_table",),
    },
)
