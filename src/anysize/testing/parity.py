"""Validate a file and raise an AssertionError that tells what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from anysize.validators import Report

__all__ = ["assert_parity", "parity_story"]

# A message is read in a terminal: the rest of the cells are counted.
_MAX_STORIES = 8


def assert_parity(
    reference: nn.Module | Path | str | None,
    onnx_path: Path | str,
    *,
    on_report: Callable[[Report], None] | None = None,
    **options: Any,
) -> Report:
    """Assert that an ONNX file computes what its original computes.

    Args:
        reference: A module in evaluation mode, a SOURCE, another ONNX file, or None for the model
            that the file says it is.
        onnx_path: The file under test.
        on_report: Receives the report, a failing one too.
        **options: What `anysize.validate` takes besides, such as `sizes`, `runtimes` and `weights`.

    Returns:
        The report.

    Raises:
        AssertionError: A comparison failed, something asked for did not run, or nothing was proved.
        AnysizeError: An argument or a file cannot be used.
    """
    __tracebackhide__ = True
    from anysize.verbs.validate import validate

    report = validate(onnx_path, reference, **options)
    if on_report is not None:
        on_report(report)
    if not report.ok:
        raise AssertionError(parity_story(report))
    return report


def parity_story(report: Report) -> str:
    """Tell in a few lines what a report found: the worst news, and a line for each failing cell."""
    from anysize.validators import join
    from anysize.validators.report import needed_atol, tolerance_text

    joined = join((report,))
    lines = [
        (
            f"{report.model.path} against {report.reference.name}: {joined.headline()}; "
            f"{joined.reason()}"
        )
    ]
    failing = [cell for cell in report.cells if not cell.is_good]
    for cell in failing[:_MAX_STORIES]:
        lines.append(f"  {cell}: {cell.verdict.value}: {cell.message}")
        if cell.diagnosis is not None:
            lines.append(f"    {cell.diagnosis.text}")
        if cell.outputs and math.isfinite(needed := needed_atol(cell.outputs)):
            lines.append(f"    would pass with {tolerance_text(needed)}")
    if len(failing) > _MAX_STORIES:
        lines.append(f"  and {len(failing) - _MAX_STORIES} more cells")
    advice = dict.fromkeys(cell.advice for cell in failing)
    lines.extend(f"  what to do: {words}" for words in advice)
    return "\n".join(lines)
