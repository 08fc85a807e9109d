"""The forms of a report: name → what writes it, imported when it is asked for."""

from __future__ import annotations

import html
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from anysize.errors import UsageError
from anysize.lazy import load

if TYPE_CHECKING:
    DataFrame: TypeAlias = Any  # pandas.DataFrame, where pandas is installed

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
_TABLE, _DATAFRAME = f"{_ROOM}.table:table_text", f"{_ROOM}.dataframe:to_dataframe"
_FRAME = 'style="width: 100%; height: 60em; border: 0"'
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

    def __str__(self) -> str:
        """Return the table of the command line, without colours."""
        return str(load(_TABLE)(self))

    def _repr_html_(self) -> str:
        """Return the page of `to_html`, for a notebook; the table where jinja2 is missing."""
        try:
            page = self.to_html()
        except UsageError:
            return f"<pre>{html.escape(str(self))}</pre>"
        # A frame keeps the page's styles off the notebook.
        return f'<iframe srcdoc="{html.escape(page)}" {_FRAME}></iframe>'

    def to_dataframe(self) -> DataFrame:
        """Return a pandas table with a row for each cell and output.

        Columns: `job`, `runtime`, `height`, `width`, `batch`, `bright`, `verdict`, `message`,
        `run_s` in seconds, `output`, and `error` and `budget` relative to the largest output.

        Raises:
            UsageError: pandas is not installed.
        """
        frame: DataFrame = load(_DATAFRAME)(self)
        return frame
