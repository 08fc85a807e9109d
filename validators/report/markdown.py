"""The Markdown form of reports: what fits in a pull request or in release notes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from anysize.validators.judging import VERDICTS
from anysize.validators.report.fitting import Block, fit
from anysize.validators.report.joined import Entry, JoinedReport, join
from anysize.validators.report.levels import figure, level_of
from anysize.validators.report.report import Cell, Report
from anysize.validators.report.story import FailingGroup, Story, group_failing
from anysize.words import cleaned, printable

__all__ = ["to_markdown"]

# Letters that begin a tag, an entity, emphasis, a link, a table's column or a code span.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&!])")
# GitHub takes comments of up to 65,536 characters.
_MOST = 60_000
# Of that, for the line that says what is left out.
_RESERVE = 500
# Of one matrix, one story and one quotation.
_MOST_ROWS = 100
_MOST_OUTPUTS = 5
_LONGEST = 1000
# What is kept first: the jobs that failed, the first stories of each, then all the rest.
_FIRST_STORIES = 3
_FAILED_JOB, _FAILED_MATRIX, _STORY, _JOB, _MATRIX, _PROVENANCE, _LATER_STORY = range(7)


def to_markdown(report: Report | JoinedReport) -> str:
    """Write reports as Markdown with tables; every name and message is escaped.

    It stays below 60,000 characters: what has no room is counted.
    """
    joined = join((report,))
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
    head = _lines(lines)
    blocks: list[Block] = []
    for entry in joined.entries:
        _add_entry(blocks, entry)
    text, left_out = fit(blocks, _MOST - _RESERVE - len(head))
    return f"{head}{_left_out(left_out)}{text}".rstrip() + "\n"


def _left_out(counts: Counter[str]) -> str:
    if not counts:
        return ""
    words = ", ".join(f"{count} of the {kind}" for kind, count in counts.items())
    return (
        f"Left out, to stay below {_MOST:,} characters: {words}. "
        "The forms `--json` and `--html` of this report have them.\n\n"
    )


def _add_entry(blocks: list[Block], entry: Entry) -> None:
    """Add one job's blocks: its heading, its matrix, its stories, and what it ran on."""
    report, place, is_good = entry.report, len(blocks), entry.exit_code == 0
    lines = [f"## {_escape(entry.name)}", ""]
    if report is None:
        lines += [f"Could not be used: {_escape(entry.error)}", ""]
        blocks.append(Block(_lines(lines), "jobs", _FAILED_JOB))
        return
    lines += [f"Against {_escape(report.reference.title)}.", ""]
    lines += [line for note in report.notes for line in (f"Note: {_escape(note)}.", "")]
    blocks.append(Block(_lines(lines), "jobs", _JOB if is_good else _FAILED_JOB))
    matrix = _lines([*_matrix(report), ""])
    blocks.append(Block(matrix, "matrices", _MATRIX if is_good else _FAILED_MATRIX, place))
    after = place
    for number, group in enumerate(group_failing(report)):
        heading = [] if number else ["### What failed", ""]
        rank = _STORY if number < _FIRST_STORIES else _LATER_STORY
        blocks.append(Block(_lines([*heading, *_story(group)]), "stories", rank, after))
        after = len(blocks) - 1
    gap = [""] if after != place else []
    provenance = _lines([*gap, *_provenance(report), ""])
    blocks.append(Block(provenance, "lists of what it ran on", _PROVENANCE, place))


def _matrix(report: Report) -> list[str]:
    names = [runtime.name for runtime in report.runtimes]
    found = {(cell.size, cell.batch, cell.runtime): cell for cell in report.cells}
    rows = list(dict.fromkeys((cell.size, cell.batch) for cell in report.cells))
    failing = {(cell.size, cell.batch) for cell in report.cells if not cell.is_good}
    # Rows in which something failed are the last to be left out.
    chosen = set(sorted(rows, key=lambda row: row not in failing)[:_MOST_ROWS])
    lines = [
        f"| size | batch | {' | '.join(map(_escape, names))} |",
        f"|---:|---:|{'---|' * len(names)}",
    ]
    for size, batch in (row for row in rows if row in chosen):
        across = (_words(found.get((size, batch, name))) for name in names)
        lines.append(f"| {size} | {batch} | {' | '.join(across)} |")
    if len(rows) > len(chosen):
        lines += ["", f"And {len(rows) - len(chosen)} more rows, in `--json` and `--html`."]
    return lines


def _words(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return " ".join(filter(None, (level_of(cell).mark, cell.verdict.value, figure(cell))))


def _story(group: FailingGroup) -> list[str]:
    story = group.told
    words = story.message or story.words or story.meaning
    more = f"; and {_escape(story.more)}" if story.more else ""
    title = _escape(f"{group.title}: {story.cell.verdict.value}")
    lines = [f"- **{title}**. {_escape(words)}{more}"]
    if group.also_at:
        lines.append(f"  - Also at {group.also_at}")
    lines += _tolerances(story)
    if story.diagnosis:
        lines.append(f"  - Diagnosis: {_escape(story.diagnosis)}")
    lines.append(f"  - What to do: {story.advice}")
    if story.command:
        lines.append(f"  - Reproduce it: {_code(story.command)}")
    return lines


def _tolerances(story: Story) -> list[str]:
    lines = []
    for output in story.outputs[:_MOST_OUTPUTS]:
        words = f"would pass with {_code(output.tolerance)}"
        if output.tolerance == "none":
            words = "no tolerance would do"
        lines.append(f"  - {_escape(output.name)}: {words}")
    if len(story.outputs) > _MOST_OUTPUTS:
        lines.append(f"  - and {len(story.outputs) - _MOST_OUTPUTS} more outputs")
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
    words = (
        f"SHA-256 {_code(report.model.sha256)}, opset {report.model.opset}, seed {report.seed}, "
        f"{report.threads} thread(s)"
    )
    parts = (words, _escape(packages), _escape(report.machine))
    return [*lines, "", "; ".join(part for part in parts if part)]


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _code(text: str) -> str:
    """Write a code span, whatever backticks are in it."""
    text = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _escape(text: str) -> str:
    """Make letters that Markdown or HTML would read stand for themselves, on one short line."""
    line = cleaned(text, most=_LONGEST)
    return _SPECIAL.sub(r"\\\1", line).replace("\\<", "&lt;").replace("\\&", "&amp;")
