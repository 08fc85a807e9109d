"""Validate a file and raise an AssertionError that tells what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anysize.sizes import Size, parse_sizes

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
    sizes: str | Sequence[Size | str] = "auto",
    runtimes: str | Sequence[str] = "ort-cpu",
    batches: Sequence[int] = (1, 2),
    weights: Path | str | None = None,
    seed: int = 0,
    atol: float | None = None,
    rtol: float | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> Report:
    """Assert that an ONNX file computes what its original computes.

    Args:
        reference: A module in evaluation mode, a SOURCE, another ONNX file, or None for the model
            that the file says it is.
        onnx_path: The file under test.
        sizes: `auto`, a list such as `224x224,256x320`, or a sequence.
        runtimes: Names as in `anysize runtimes`, a list or comma-separated, or `all`.
        batches: Numbers of images.
        weights: A checkpoint for a reference that is a SOURCE.
        seed: Of the images.
        atol: With `rtol`, replaces the error budget by |y − ref| ≤ atol + rtol·|ref|.
        rtol: See `atol`.
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
        sizes=_sizes(sizes),
        runtimes=runtimes,
        batches=batches,
        weights=weights,
        seed=seed,
        atol=atol,
        rtol=rtol,
    )
    if on_report is not None:
        on_report(report)
    if not report.ok:
        raise AssertionError(parity_story(report))
    return report


def parity_story(report: Report) -> str:
    """Tell in a few lines what a report found: the worst news, and a line for each failing cell."""
    from anysize.validators import join

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
        if cell.worst is not None:
            lines.append(f"    would pass with atol {cell.worst.deviation.needed_atol:.3g}")
    if len(failing) > _MAX_STORIES:
        lines.append(f"  and {len(failing) - _MAX_STORIES} more cells")
    advice = dict.fromkeys(cell.advice for cell in failing)
    lines.extend(f"  what to do: {words}" for words in advice)
    return "\n".join(lines)


def _sizes(sizes: str | Sequence[Size | str]) -> Sequence[Size] | Literal["auto"]:
    if isinstance(sizes, str):
        return "auto" if sizes == "auto" else parse_sizes(sizes)
    return [Size.parse(size) if isinstance(size, str) else size for size in sizes]
