"""Join what the parity environments found: one page, files × sizes × runtimes.

    python tests/parity/matrix_report.py FOLDER

Reads FOLDER/parity-*.json, writes FOLDER/parity.json and FOLDER/parity.html, and fails where a
report is missing or unreadable, of an environment that began, and where a cell is bad that is no
known finding.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from findings import complaints, find

from anysize.errors import UsageError
from anysize.files import atomic_output
from anysize.validators import Cell, Report
from anysize.validators.report.joined import Entry, JoinedReport
from anysize.validators.report.json_format import read_report

__all__ = ["join_matrix", "main"]


def join_matrix(files: Sequence[Path]) -> JoinedReport:
    """Put the runtimes of each file beside each other; a file that cannot be read is an entry, too.

    Args:
        files: What `--anysize-report` wrote; empty where an environment began and did not finish.
    """
    unreadable: list[Entry] = []
    reports: dict[tuple[object, ...], Report] = {}
    for path in files:
        try:
            found = read_report(path).reports
        except UsageError as exc:
            unreadable.append(Entry(path.stem, None, str(exc), 3))
            continue
        if not found:
            unreadable.append(Entry(path.stem, None, "no cell at all", 3))
        for report in found:
            # Another file under the same name is none to be merged with.
            key = (report.model.path, report.model.sha256, report.reference, report.seed)
            known = reports.get(key)
            reports[key] = report if known is None else _beside(known, report)
    entries = [_entry(report) for report in reports.values()]
    return JoinedReport((*unreadable, *sorted(entries, key=lambda entry: entry.name)))


def _beside(left: Report, right: Report) -> Report:
    packages = sorted({*left.packages, *right.packages}, key=lambda one: one.package)
    return replace(
        left,
        runtimes=left.runtimes + right.runtimes,
        cells=left.cells + right.cells,
        packages=tuple(packages),
    )


def _entry(report: Report) -> Entry:
    model, head = report.model.path.partition("/")[0], report.model.head or ""
    is_expected = not complaints(report, model, head)
    cells = tuple(_explained(cell, report, model, head) for cell in report.cells)
    shown = replace(report, cells=cells)
    code = 0 if is_expected else max(report.exit_code, 1)
    return Entry(report.model.path, shown, "", code)


def _explained(cell: Cell, report: Report, model: str, head: str) -> Cell:
    known = find(cell, report, model, head)
    if known is None or cell.verdict is not known.verdict:
        return cell
    return replace(cell, message=f"known since {known.version}: {known.reason}. {cell.message}")


def main(folder: Path) -> int:
    """Write the page; return what the process exits with."""
    files = sorted(folder.glob("parity-*.json"))
    if not files:
        print(f"{folder}: no parity-*.json; run the parity environments first", file=sys.stderr)
        return 3
    joined = join_matrix(files)
    for name, text in (("parity.json", joined.to_json()), ("parity.html", joined.to_html())):
        with atomic_output(folder / name) as stream:
            stream.write(text.encode(errors="backslashreplace"))
    print(f"{folder / 'parity.html'}: {joined.headline()}; {joined.reason()}")
    for entry in joined.entries:
        if entry.exit_code:
            print(f"  {entry.name}: {entry.error or 'see the page'}")
    return joined.exit_code


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
