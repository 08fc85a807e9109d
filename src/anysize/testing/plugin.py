"""The pytest plugin: a fixture that asserts parity, and one report of all that it saw.

pytest loads it wherever anysize is installed, so that it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anysize.validators import Report

_REPORTS = pytest.StashKey[list[str]]()
_OUTPUT = "anysize_reports"
_FORMATS = {".html": "html", ".json": "json", ".xml": "junit", ".md": "markdown"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("anysize", "parity of ONNX files with their originals")
    group.addoption(
        "--anysize-runtimes",
        default="ort-cpu",
        metavar="NAMES",
        help="runtimes of anysize_parity, comma-separated, or all (default: ort-cpu)",
    )
    group.addoption(
        "--anysize-report",
        default=None,
        metavar="FILE",
        help="write a report of every anysize_parity: .html, .json, .xml (JUnit) or .md",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a report that could not be written before any test runs."""
    config.stash[_REPORTS] = []
    path = config.getoption("--anysize-report")
    if path is None or hasattr(config, "workerinput"):
        return
    from anysize.errors import UsageError
    from anysize.files import check_output_path

    if Path(path).suffix not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise pytest.UsageError(f"--anysize-report {path}: expected a name that ends in {known}")
    try:
        check_output_path(Path(path))
    except UsageError as exc:
        raise pytest.UsageError(f"--anysize-report: {exc}") from exc


@pytest.fixture(scope="session")
def anysize_runtimes(pytestconfig: pytest.Config) -> tuple[str, ...]:
    """Return the runtimes of --anysize-runtimes, to parametrise or to skip by."""
    from anysize.validators import parse_runtimes

    return parse_runtimes(pytestconfig.getoption("--anysize-runtimes"))


@pytest.fixture(scope="session")
def anysize_record(pytestconfig: pytest.Config) -> Callable[[Report], None]:
    """Return what puts a report of your own into that of --anysize-report."""
    reports = pytestconfig.stash[_REPORTS]
    return lambda report: reports.append(report.to_json())


@pytest.fixture
def anysize_parity(
    anysize_runtimes: tuple[str, ...], anysize_record: Callable[[Report], None]
) -> Callable[..., Report]:
    """Return `anysize.testing.assert_parity`, on the runtimes of the command line by default."""
    from anysize.testing.parity import assert_parity

    return partial(assert_parity, runtimes=anysize_runtimes, on_report=anysize_record)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, or hand what a worker of pytest-xdist has to the process that writes it."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput[_OUTPUT] = config.stash[_REPORTS]
        return
    path = config.getoption("--anysize-report")
    if path is None:
        return
    from anysize.files import atomic_output
    from anysize.validators import Report, join

    texts = config.stash[_REPORTS]
    texts.sort()  # the workers' order is none
    joined = join([Report.from_json(text) for text in texts])
    drawn: str = getattr(joined, f"to_{_FORMATS[Path(path).suffix]}")()
    with atomic_output(Path(path)) as stream:
        stream.write(drawn.encode(errors="backslashreplace"))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over what a worker of pytest-xdist has seen."""
    del error
    node.config.stash[_REPORTS].extend(getattr(node, "workeroutput", {}).get(_OUTPUT, ()))
