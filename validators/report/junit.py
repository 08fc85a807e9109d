"""The JUnit form of a report: one test case per cell, for the pages of a CI service."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from anysize.validators.report.report import Cell, Report
from anysize.validators.verdicts import VERDICTS, Outcome

__all__ = ["report_to_junit"]


def report_to_junit(report: Report) -> str:
    """Write a report as JUnit XML: a failed comparison is a failure, a cell not run an error.

    A report whose every cell is good but which proved nothing (no cell passed) gets an error of its
    own, so that a CI service is as red as the exit code.
    """
    cells = report.cells
    counts = dict.fromkeys(Outcome, 0)
    for cell in cells:
        counts[VERDICTS[cell.verdict].outcome] += 1
    is_empty = report.exit_code == 3 and not counts[Outcome.NOT_RUN]
    totals = {
        "tests": str(len(cells) + is_empty),
        "failures": str(counts[Outcome.FAILED]),
        "errors": str(counts[Outcome.NOT_RUN] + is_empty),
        "time": f"{sum(cell.run_s or 0.0 for cell in cells):.6f}",
    }
    root = ET.Element("testsuites", {"name": "anysize validate", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": report.model.path, **totals})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(report):
        ET.SubElement(properties, "property", {"name": name, "value": _printable(value)})
    for cell in cells:
        _add_case(suite, cell, report)
    if is_empty:
        case = ET.SubElement(
            suite, "testcase", {"classname": report.model.path, "name": "a cell passed"}
        )
        ET.SubElement(case, "error", {"type": "nothing proved", "message": "no cell passed"})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _properties(report: Report) -> list[tuple[str, str]]:
    runtimes = [(f"runtime.{r.name}", f"{r.version} {r.profile}") for r in report.runtimes]
    return [
        ("sha256", report.model.sha256),
        ("opset", str(report.model.opset)),
        ("reference", f"{report.reference.name} ({report.reference.kind})"),
        ("seed", str(report.seed)),
        *runtimes,
    ]


def _add_case(suite: ET.Element, cell: Cell, report: Report) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": f"{report.model.path}.{cell.runtime}",
            "name": f"{cell.size} batch {cell.batch}",
            "time": f"{cell.run_s or 0.0:.6f}",
        },
    )
    meaning = VERDICTS[cell.verdict]
    if meaning.outcome is not Outcome.GOOD:
        tag = "failure" if meaning.outcome is Outcome.FAILED else "error"
        words = _printable(cell.message or meaning.text)
        problem = ET.SubElement(case, tag, {"type": cell.verdict.value, "message": words})
        problem.text = f"{words}\n{meaning.advice}"
    lines = [
        f"{output.name}: error {output.deviation.error:.3e}, budget {output.deviation.budget:.3e}"
        for output in cell.outputs
    ]
    if lines:
        ET.SubElement(case, "system-out").text = _printable("\n".join(lines))


def _printable(text: str) -> str:
    """Replace characters that XML 1.0 cannot hold, which a runtime's words may contain."""
    return "".join(
        c
        if c in "\t\n" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff")
        else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )
