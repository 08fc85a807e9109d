"""Proof of an exported file: it answers as its module does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import AnysizeError, VerificationError
from anysize.verbs.progress import Progress, validation_progress
from anysize.verbs.verification import UNPROVED
from anysize.words import without_validate

if TYPE_CHECKING:
    from anysize.models import ResolvedModel
    from anysize.sizes import Size
    from anysize.validators import Cell, Report, ValidationSpec

__all__ = ["proof_spec", "unproved", "verified", "verify_export"]


def verify_export(
    path: Path,
    model: ResolvedModel,
    progress: Progress,
    *,
    batches: Sequence[int] = (1, 2),
    is_full: bool = False,
) -> Report:
    """Compare a file with its module on ONNX Runtime's CPU provider.

    As `anysize validate` does, if `is_full`; otherwise each case runs once, on weights mapped from
    the file.

    Args:
        path: The file, under a temporary name perhaps.
        model: What it was exported from.
        progress: Told how far the comparison is.
        batches: Numbers of images.
        is_full: At the sizes `auto`, and all numbers of images; what is worth its cost otherwise.

    Raises:
        VerificationError: A cell is bad, unless it is merely vacuous below the training size, or
            none is good.
    """
    from anysize.validators import validate_model

    try:
        report = validate_model(
            path,
            model.module,
            proof_spec(is_full=is_full),
            name=model.name,
            batches=batches,
            progress=validation_progress(progress, "verifying: "),
        )
    except AnysizeError as exc:
        raise type(exc)(f"{without_validate(str(exc))}; {UNPROVED}") from exc
    excused = _excused(report, model)
    bad = [cell for cell in report.cells if not cell.is_good and cell not in excused]
    if bad or all(cell.verdict != "pass" for cell in report.cells):
        story = f"{bad[0]}: {without_validate(bad[0].words)}" if bad else "no cell passed"
        more = f" (and {len(bad) - 1} more cells)" if len(bad) > 1 else ""
        what = _trouble({cell.verdict for cell in bad})
        story += _squeezed(bad)
        raise VerificationError(f"{model.name}: {what} and was not written: {story}{more}")
    return report


def _squeezed(bad: Sequence[Cell]) -> str:
    """Say how a module comes to have another shape for one image, where that is all."""
    if {(cell.verdict, cell.batch) for cell in bad} != {("shape", 1)}:
        return ""
    return (
        "; it has another shape for one image alone, as of a squeeze() without axes, which drops "
        "that of the batch, too: name the axes, or use flatten(1)"
    )


def proof_spec(*, is_full: bool) -> ValidationSpec:
    """Say how a new file is compared with its module."""
    from anysize.validators import ValidationSpec
    from anysize.validators.references.graph import MappedOrt

    if is_full:
        return ValidationSpec(sizes="auto")
    return ValidationSpec(runtimes=[MappedOrt()], sizes="quick", is_repeated=False)


def _trouble(verdicts: Set[str]) -> str:
    is_wrong = bool(verdicts - {"vacuous"})
    return "the exported graph is wrong" if is_wrong else "the exported graph is not proved right"


def _excused(report: Report, model: ResolvedModel) -> tuple[Cell, ...]:
    """Return the vacuous cells below the training size.

    Random weights hardly let an image of a few pixels through, which is no fault of the file; the
    values agree there, too, and that the graph follows its input is proved at larger sizes.
    """
    training = model.training_size
    return tuple(
        cell
        for cell in report.cells
        if cell.verdict == "vacuous"
        and cell.size != training
        and cell.size.height <= training.height
        and cell.size.width <= training.width
    )


def unproved(report: Report, model: ResolvedModel) -> tuple[str, ...]:
    """Say at which sizes a verification that succeeded proves little; one line, or none."""
    cells = _excused(report, model)
    if not cells:
        return ()
    sizes = ", ".join(dict.fromkeys(str(cell.size) for cell in cells))
    note = (
        f"{model.name}: at {sizes} the module's own answer hardly depends on the image, so that "
        "agreement proves little there; verify with trained weights, or give a larger --min-size"
    )
    return (note,)


def verified(report: Report) -> str:
    """Say in a few words what a good report found."""
    ratios = [cell.ratio for cell in report.cells if cell.outputs]
    passed = [cell.size for cell in report.cells if cell.verdict == "pass"]
    rejected = sum(cell.verdict == "rejected" for cell in report.cells)
    worst = f", error at most {max(ratios):.2g} × budget" if ratios else ""
    vacuous = sum(cell.verdict == "vacuous" for cell in report.cells)
    also = f", {rejected} rejected on both sides" if rejected else ""
    also += f", {vacuous} vacuous" if vacuous else ""
    where = f"verified on {report.runtimes[0].name} at {sizes_in_words(passed)}"
    return f"{where}: {len(passed)} cells pass{also}{worst}"


def sizes_in_words(sizes: Iterable[Size]) -> str:
    """Say at how many sizes something was compared, and from which to which."""
    ordered = sorted(set(sizes), key=lambda size: (size.area, size.height))
    if len(ordered) < 2:
        return str(*ordered) if ordered else "no size"
    return f"{len(ordered)} sizes, {ordered[0]} to {ordered[-1]}"
