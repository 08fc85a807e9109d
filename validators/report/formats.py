"""The forms of a report: name → what writes it, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

from anysize.lazy import load

__all__ = ["FORMATS", "Written"]

_ROOM = "anysize.validators.report"
# Each takes one report or several in one.
FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "json": "anysize.as_json:as_json",
        "junit": f"{_ROOM}.junit:to_junit",
        "markdown": f"{_ROOM}.markdown:to_markdown",
        "html": f"{_ROOM}.page:to_html",
    }
)
_READER = f"{_ROOM}.json_format:report_from_json"


class Written:
    """A report, or several in one, that can be written in each form of the table."""

    __slots__ = ()

    def to_json(self) -> str:
        """Return it as JSON, which `from_json` reads back."""
        return self._written("json")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            UsageError: The text is no such report, or one of another schema version.
        """
        report: Self = load(_READER)(text, cls)
        return report

    def to_junit(self) -> str:
        """Return JUnit XML: a suite for each report, a test case for each cell."""
        return self._written("junit")

    def to_markdown(self) -> str:
        """Return Markdown, for a pull request or release notes."""
        return self._written("markdown")

    def to_html(self) -> str:
        """Return one HTML page that needs nothing from the network.

        Raises:
            UsageError: jinja2, of the extra `report`, is not installed.
        """
        return self._written("html")

    def _written(self, form: str) -> str:
        return str(load(FORMATS[form])(self))
