"""The Markdown form of reports: what fits in a pull request or in release notes."""

from __future__ import annotations

import re

from anysize.validators.report.joined import Entry, JoinedReport
from anysize.validators.report.levels import figure, level_of
from anysize.validators.report.report import Cell, Report
from anysize.validators.report.story import tell
from anysize.validators.verdicts import VERDICTS

__all__ = ["to_markdown"]

# Letters that begin a tag, an entity, emphasis, a link, a table's column or a code span.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&!])")


def to_markdown(joined: JoinedReport) -> str:
    """Write reports as Markdown with tables; every name and message is escaped."""
    mark = "✅" if joined.ok else "❌"
    lines = [
        f"# {mark} {joined.headline()}",
        "",
        f"Exit code {joined.exit_code}: {joined.reason()}.",
        "",
        "| verdict | cells | meaning |",
        "|---|---:|---|",
        *(f"| {v.value} | {n} | {VERDICTS[v].text} |" for v, n in joined.counts()),
        "",
    ]
    for entry in joined.entries:
        lines += _entry(entry)
    return "\n".join(lines).rstrip() + "\n"


def _entry(entry: Entry) -> list[str]:
    report = entry.report
    lines = [f"## {_escape(entry.name)}", ""]
    if report is None:
        return [*lines, f"Could not be used: {_escape(entry.error)}", ""]
    lines += [f"Against {_escape(report.reference.title)}.", ""]
    lines += _matrix(report)
    failing = [cell for cell in report.cells if not cell.is_good]
    if failing:
        lines += ["", "### What failed", ""]
        lines += [line for cell in failing for line in _story(report, cell)]
    return [*lines, "", *_provenance(report), ""]


def _matrix(report: Report) -> list[str]:
    names = [runtime.name for runtime in report.runtimes]
    found = {(cell.size, cell.batch, cell.runtime): cell for cell in report.cells}
    lines = [
        f"| size | batch | {' | '.join(map(_escape, names))} |",
        f"|---:|---:|{'---|' * len(names)}",
    ]
    for size, batch in dict.fromkeys((cell.size, cell.batch) for cell in report.cells):
        across = (_words(found.get((size, batch, name))) for name in names)
        lines.append(f"| {size} | {batch} | {' | '.join(across)} |")
    return lines


def _words(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return " ".join(filter(None, (level_of(cell).mark, cell.verdict.value, figure(cell))))


def _story(report: Report, cell: Cell) -> list[str]:
    story = tell(report, cell)
    words = cell.message or story.meaning
    lines = [f"- **{_escape(str(cell))}: {cell.verdict.value}**. {_escape(words)}"]
    lines += [f"  - {_escape(o.name)}: would pass with `{o.tolerance}`" for o in story.outputs]
    if story.diagnosis:
        lines.append(f"  - Diagnosis: {_escape(story.diagnosis)}")
    lines.append(f"  - What to do: {_escape(story.advice)}")
    if story.command:
        fence = "``" if "`" in story.command else "`"
        lines.append(f"  - Reproduce it: {fence}{story.command}{fence}")
    return lines


def _provenance(report: Report) -> list[str]:
    lines = ["| runtime | version | profile | ran on |", "|---|---|---|---|"]
    for runtime in report.runtimes:
        uses = runtime.provenance.providers
        ran = ", ".join(f"{use.provider} ({use.nodes} nodes)" for use in uses)
        version = runtime.version or "not installed"
        row = (runtime.name, version, runtime.profile, ran or "nothing")
        lines.append(f"| {' | '.join(map(_escape, row))} |")
    packages = ", ".join(f"{package.package} {package.version}" for package in report.packages)
    return [
        *lines,
        "",
        (
            f"SHA-256 `{report.model.sha256}`, opset {report.model.opset}, seed {report.seed}, "
            f"{report.threads} thread(s); {packages}"
        ),
    ]


def _escape(text: str) -> str:
    """Make letters that Markdown or HTML would read stand for themselves, on one line."""
    return (
        _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("\\<", "&lt;").replace("\\&", "&amp;")
    )
