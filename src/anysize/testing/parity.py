"""Validate a file and raise an AssertionError that tells what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.sizes import Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from anysize.validators import Report
    from anysize.validators.judging import PerOutput

__all__ = ["assert_parity", "parity_story"]

# A message is read in a terminal: the rest of the cells are counted.
_MAX_STORIES = 8


def assert_parity(
    reference: nn.Module | Path | str | None,
    onnx_path: Path | str,
    *,
    sizes: str | Sequence[Size | str | Sequence[int]] = "auto",
    runtimes: str | Sequence[str] = "ort-cpu",
    batches: Sequence[int] | int = (1, 2),
    weights: Path | str | None = None,
    seed: int = 0,
    atol: PerOutput | None = None,
    rtol: PerOutput | None = None,
    arbiter: str = "float64",
    tf32: bool = False,
    half: bool = False,
    bright: bool = True,
    inputs: Path | str | Mapping[str, NDArray[np.generic]] | None = None,
    bisect: Path | str | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> Report:
    """Assert that an ONNX file computes what its original computes.

    Args:
        reference: A module in evaluation mode, a SOURCE, another ONNX file, or None for the model
            that the file says it is.
        onnx_path: The file under test.
        sizes: `auto`, a list such as `224x224,256x320`, or a sequence of Size, text or (h, w).
        runtimes: Names as in `anysize runtimes`, a list or comma-separated, or `all`.
        batches: Numbers of images.
        weights: A checkpoint for a reference that is a SOURCE.
        seed: Of the images.
        atol: With `rtol`, replaces the error budget by |y − ref| ≤ atol + rtol·|ref|, for all
            outputs or for those that are named: `{"map": 1e-3}`; the name "" stands for all that
            are not.
        rtol: See `atol`.
        arbiter: `float64`, or `none` to judge by the float32 reference alone.
        tf32: Allow TF32 on the runtimes that have it, and judge them by its error profile.
        half: Judge a file with float16 weights by the error profile `float16`.
        bright: Add a case of other images, eight times as bright.
        inputs: Arrays for the graph's inputs, by name, or an `.npz` file of them; they replace
            sizes and batches.
        bisect: A folder. The first failing cell of each runtime is diagnosed, and its images are
            saved there.
        on_report: Receives the report, a failing one too.

    Returns:
        The report.

    Raises:
        AssertionError: A comparison failed, something asked for did not run, or nothing was proved.
        AnysizeError: An argument or a file cannot be used.
    """
    __tracebackhide__ = True
    from anysize.verbs.validate import validate

    report = validate(
        onnx_path,
        reference,
        sizes=sizes,
        runtimes=runtimes,
        batches=batches,
        weights=weights,
        seed=seed,
        atol=atol,
        rtol=rtol,
        arbiter=arbiter,
        tf32=tf32,
        half=half,
        bright=bright,
        inputs=inputs,
        bisect=bisect,
    )
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
