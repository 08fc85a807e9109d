"""Cells of the matrix that a runtime cannot do: one table, with what it does instead and why.

A finding is not hidden, and it does not outlive its cause: as soon as a cell has another verdict
than the one in the table, the matrix turns red.
"""

from __future__ import annotations

from dataclasses import dataclass

import anysize
from anysize.validators import Cell, Verdict

__all__ = ["FINDINGS", "Finding", "complaints", "find"]

ANY = "*"
LEGAL = "legal"
ABOVE = "above"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a runtime does in some cells instead of what it should.

    Attributes:
        runtime: Its name.
        version: Of the runtime that showed it.
        model: Name of the network; `*` for every one.
        head: Of the network.
        size: `HEIGHTxWIDTH`, `legal` for the sizes that the file declares, `above` for those beyond
            its largest one, or `*` for all.
        verdict: What the cell has.
        reason: Why.
    """

    runtime: str
    version: str
    model: str
    head: str
    size: str
    verdict: Verdict
    reason: str


_LRN = (
    "onnx's evaluator runs LRN over `range(x.shape[0])`, the batch, where it means the channels: "
    "all but the first few stay as they were"
)
FINDINGS = (
    Finding("onnx-reference", "1.23.2", "googlenet", "as-is", LEGAL, Verdict.MISMATCH, _LRN),
    Finding("onnx-reference", "1.23.2", "age_gender", "fc", LEGAL, Verdict.MISMATCH, _LRN),
    Finding(
        "openvino",
        "2026.4.1",
        ANY,
        "fc",
        LEGAL,
        Verdict.MISMATCH,
        "after a size that the graph rejects, the compiled model fails on the legal sizes that it "
        "ran before, with the shapes of the failed run, on a new infer request, too; a model "
        "compiled anew runs them. With fc, larger sizes are rejected before legal ones are "
        "repeated",
    ),
    Finding(
        "tract",
        "0.23.9",
        ANY,
        "fc",
        ANY,
        Verdict.UNSUPPORTED,
        "Flatten of a map with symbolic height and width: 'Can not compute a shape with square of "
        "symbols'; it is refused while loading, before any size is known",
    ),
    Finding(
        "tract",
        "0.23.9",
        "pyramid_scene",
        "as-is",
        ANY,
        Verdict.UNSUPPORTED,
        "a bilinear resize to the size of another map: 'Undetermined symbol in expression: "
        "2*(height+3)/4' while it simplifies the sampling points",
    ),
    Finding(
        "tract",
        "0.23.9",
        ANY,
        "roi",
        ANY,
        Verdict.UNSUPPORTED,
        "'Unimplemented(RoiAlign)': tract has no pooling of regions, MaxRoiPool neither",
    ),
    Finding(
        "iree",
        "3.13.0",
        ANY,
        "roi",
        ANY,
        Verdict.UNSUPPORTED,
        "failed to legalize operation 'torch.constant.bool', which its importer makes of RoiAlign",
    ),
    Finding(
        "iree",
        "3.13.0",
        "digits",
        "adaptive",
        ANY,
        Verdict.UNSUPPORTED,
        "'failed to legalize operation' for GreaterOrEqual of opset 13, that of digits; "
        "at 18 it compiles",
    ),
)


def find(
    cell: Cell, report: anysize.Report, model: str, head: str, table: tuple[Finding, ...] = FINDINGS
) -> Finding | None:
    """Return the finding that a cell falls under."""
    low, high = report.model.min_size, report.model.max_size
    height, width = cell.size.height, cell.size.width
    is_above = high is not None and (height > high.height or width > high.width)
    is_below = low is not None and (height < low.height or width < low.width)
    places = {ANY, str(cell.size)}
    places |= {ABOVE} if is_above else set()
    places |= set() if is_above or is_below else {LEGAL}
    for known in table:
        if (
            known.runtime == cell.runtime
            and known.model in (ANY, model)
            and known.head == head
            and known.size in places
        ):
            return known
    return None


def complaints(
    report: anysize.Report, model: str, head: str, table: tuple[Finding, ...] = FINDINGS
) -> list[str]:
    """Say which cells are neither good nor what the table says they are."""
    found = []
    for cell in report.cells:
        known = find(cell, report, model, head, table)
        if known is None and not cell.is_good:
            found.append(f"{cell}: {cell.verdict} {cell.message}")
        elif known is not None and cell.verdict is not known.verdict:
            version = report.runtimes[0].version
            found.append(
                f"{cell}: {cell.verdict}, where the findings have {known.verdict} since "
                f"{known.version} ({known.reason}); with {version} it is gone or has changed: "
                "edit tests/parity/findings.py"
            )
    return found or ([] if report.cells else ["no cell at all"])
