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


@dataclass(frozen=True, slots=True)
class Finding:
    """What a runtime does in some cells instead of what it should.

    Attributes:
        runtime: Its name.
        version: Of the runtime that showed it.
        model: Name of the network; `*` for every one.
        head: Of the network.
        size: `HEIGHTxWIDTH`, `legal` for the sizes that the file declares, or `*` for all.
        verdict: What the cell has.
        reason: Why.
        is_partial: Whether only some of the cells have it, at least one, and the others pass.
    """

    runtime: str
    version: str
    model: str
    head: str
    size: str
    verdict: Verdict
    reason: str
    is_partial: bool = False


_LRN = (
    "onnx's evaluator runs LRN over `range(x.shape[0])`, the batch, where it means the channels: "
    "all but the first few stay as they were"
)
_IREE_CEIL = (
    "'expected sizes to be non-negative, but got -1' at a padded convolution behind a MaxPool with "
    "ceil_mode"
)
FINDINGS = (
    Finding("onnx-reference", "1.23.2", "googlenet", "as-is", LEGAL, Verdict.MISMATCH, _LRN),
    Finding("onnx-reference", "1.23.2", "age_gender", "fc", LEGAL, Verdict.MISMATCH, _LRN),
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
    *(
        Finding("iree", "3.13.0", name, "as-is", ANY, Verdict.UNSUPPORTED, _IREE_CEIL)
        for name in ("googlenet", "googlenet_bn", "squeezenet1_1")
    ),
    Finding(
        "iree",
        "3.13.0",
        "age_gender",
        "fc",
        LEGAL,
        Verdict.ERROR,
        "'RESOURCE_EXHAUSTED; libc allocator failed the request' in LRN at 227x227",
    ),
    Finding(
        "iree",
        "3.13.0",
        "group_norm_net",
        "as-is",
        LEGAL,
        Verdict.MISMATCH,
        "NaN in place of every logit; the network normalises groups, by InstanceNormalization",
    ),
    Finding(
        "mnn",
        "3.6.1",
        "embedding",
        "fcn",
        LEGAL,
        Verdict.MISMATCH,
        "ReduceL2 with its axes as an input (opset 18) makes one number of the whole batch",
        is_partial=True,
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
    explained = {cell: find(cell, report, model, head, table) for cell in report.cells}
    seen = {known for cell, known in explained.items() if known and cell.verdict is known.verdict}
    for cell, known in explained.items():
        if known is None and not cell.is_good:
            found.append(f"{cell}: {cell.verdict} {cell.message}")
        elif known is not None and cell.verdict is not known.verdict:
            if known.is_partial and known in seen and cell.is_good:
                continue
            (version,) = (r.version for r in report.runtimes if r.name == cell.runtime)
            found.append(
                f"{cell}: {cell.verdict}, where the findings have {known.verdict} since "
                f"{known.version} ({known.reason}); with {version} it is gone or has changed: "
                "edit tests/parity/findings.py"
            )
    return found or ([] if report.cells else ["no cell at all"])
