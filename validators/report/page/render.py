"""Fill the pages' templates; every value from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
import importlib
import re
from importlib import resources

from anysize.errors import UsageError
from anysize.validators.judging import VERDICTS
from anysize.validators.report.drawing import HEIGHT, WIDTH
from anysize.validators.report.joined import JoinedReport, join
from anysize.validators.report.levels import LEVELS, level_of
from anysize.validators.report.page.views import bar, view
from anysize.validators.report.report import Report
from anysize.version import VERSION
from anysize.words import printable

__all__ = ["rendered", "require_jinja", "to_html"]

# Beyond, plots are for what is not good: a page of a thousand reports opens at once.
_MOST_DRAWN = 100
# The parts of a name, each with what separates it from the next one.
_SEPARATED = re.compile(r"[^/_-]*[/_-]+|[^/_-]+")


def require_jinja() -> None:
    """Say what is missing before the work is done.

    Raises:
        UsageError: jinja2 cannot be imported.
    """
    try:
        importlib.import_module("jinja2")
    except ImportError as exc:
        raise UsageError(
            f"html: the page needs jinja2 ({exc}); pip install 'anysize[report]'"
        ) from exc


def to_html(report: Report | JoinedReport) -> str:
    """Draw reports as one HTML page, the same one for the same reports.

    Raises:
        UsageError: jinja2, of the extra `report`, is not installed.
    """
    joined = join((report,))
    runtimes = tuple(dict.fromkeys(r.name for one in joined.reports for r in one.runtimes))
    is_drawn = len(joined.entries) <= _MOST_DRAWN
    seen = {level_of(cell).name for cell in joined.cells}
    return rendered(
        "page.html.j2",
        str(__package__),
        joined=joined,
        entries=[
            view(entry, number, runtimes, is_drawn=is_drawn)
            for number, entry in enumerate(joined.entries)
        ],
        is_drawn=is_drawn,
        runtimes=runtimes,
        bar=bar(joined),
        legend=[level for level in LEVELS if level.name in seen],
        meanings=VERDICTS,
        status={0: "good", 1: "failed"}.get(joined.exit_code, "not-run"),
    )


def rendered(template: str, package: str, **values: object) -> str:
    """Fill a template; every value from outside is escaped.

    Args:
        template: Its file, which may extend and import those that lie here.
        package: The package that it lies in.
        values: What it reads, beside the style, the plots' width and height, and the version.

    Raises:
        UsageError: jinja2, of the extra `report`, is not installed.
    """
    require_jinja()
    import jinja2

    def read(name: str) -> str:
        place = package if name == template else str(__package__)
        return resources.files(place).joinpath(name).read_text(encoding="utf-8")

    style = read("page.css")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template(template).render(
        **values,
        style=style,
        # The one style sheet that the page's own policy lets through.
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        width=WIDTH,
        height=HEIGHT,
        version=VERSION,
    )


def _printable(value: object) -> object:
    """Replace control characters in words of others; what is markup already has none."""
    return printable(value) if type(value) is str else value


def _breakable(name: str) -> object:
    """Let a name go on in the next line behind what separates its parts."""
    markup = importlib.import_module("markupsafe")
    parts = [markup.escape(part) for part in _SEPARATED.findall(printable(name))]
    return markup.Markup("<wbr>").join(parts)
