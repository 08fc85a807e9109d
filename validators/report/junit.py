"""The JUnit form of a report: one test case per cell, for the pages of a CI service."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from anysize.validators.judging import VERDICTS, Outcome
from anysize.validators.report.joined import Entry, JoinedReport, join
from anysize.validators.report.report import Cell, Report
from anysize.validators.report.story import wrong_graphs
from anysize.words import printable

__all__ = ["to_junit"]


def to_junit(report: Report | JoinedReport) -> str:
    """Write JUnit XML: a failed comparison is a failure, a cell not run an error.

    A report whose every cell is good but which proved nothing (no cell passed) gets an error of its
    own, so that a CI service is as red as the exit code; so does a job without a report.
    """
    joined = join((report,))
    root = ET.Element("testsuites", {"name": "anysize validate"})
    for entry in joined.entries:
        _add_suite(root, entry)
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in root):.6f}")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_suite(root: ET.Element, entry: Entry) -> None:
    name, report = printable(entry.name), entry.report
    cells = report.cells if report is not None else ()
    counts = dict.fromkeys(Outcome, 0)
    for cell in cells:
        counts[VERDICTS[cell.verdict].outcome] += 1
    is_empty = report is None or (entry.exit_code >= 2 and not counts[Outcome.NOT_RUN])
    totals = {
        "tests": str(len(cells) + is_empty),
        "failures": str(counts[Outcome.FAILED]),
        "errors": str(counts[Outcome.NOT_RUN] + is_empty),
        "time": f"{sum(cell.run_s or 0.0 for cell in cells):.6f}",
    }
    suite = ET.SubElement(root, "testsuite", {"name": name, **totals})
    if report is not None:
        properties = ET.SubElement(suite, "properties")
        for key, value in _properties(report):
            attributes = {"name": printable(key), "value": printable(value)}
            ET.SubElement(properties, "property", attributes)
        for cell in cells:
            _add_case(suite, cell, report)
    if is_empty:
        wanted = "a report" if report is None else "a cell passed"
        case = ET.SubElement(suite, "testcase", {"classname": name, "name": wanted})
        words = printable(entry.error) or "no cell passed"
        ET.SubElement(case, "error", {"type": "nothing proved", "message": words})


def _properties(report: Report) -> list[tuple[str, str]]:
    runtimes = [(f"runtime.{r.name}", f"{r.version} {r.profile}") for r in report.runtimes]
    return [
        ("sha256", report.model.sha256),
        ("opset", str(report.model.opset)),
        ("reference", report.reference.title),
        ("seed", str(report.seed)),
        *runtimes,
        *([("machine", report.machine)] if report.machine else []),
        *(("note", note) for note in report.notes),
        *(("wrong graph", text) for text in wrong_graphs(report)),
    ]


def _add_case(suite: ET.Element, cell: Cell, report: Report) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": printable(f"{report.model.path}.{cell.runtime}"),
            "name": f"{cell.size} batch {cell.batch}",
            "time": f"{cell.run_s or 0.0:.6f}",
        },
    )
    meaning = VERDICTS[cell.verdict]
    if meaning.outcome is not Outcome.GOOD:
        tag = "failure" if meaning.outcome is Outcome.FAILED else "error"
        words = printable(cell.message or meaning.text)
        problem = ET.SubElement(case, tag, {"type": cell.verdict.value, "message": words})
        found = printable(f"\n{cell.diagnosis.text}") if cell.diagnosis else ""
        problem.text = f"{words}{found}\n{meaning.advice}"
    lines = [
        f"{printable(o.name)}: error {o.deviation.error:.3e}, budget {o.deviation.budget:.3e}"
        for o in cell.outputs
    ]
    if lines:
        ET.SubElement(case, "system-out").text = "\n".join(lines)
