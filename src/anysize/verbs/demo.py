"""The whole product on one trained classifier: export, rewrite, prove, look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import UsageError
from anysize.files import atomic_output
from anysize.sizes import Size
from anysize.verbs.class_map import class_map
from anysize.verbs.export import export
from anysize.verbs.panels import Label, Panel, draw_panels
from anysize.verbs.progress import Progress, silent
from anysize.verbs.rewrite import rewrite
from anysize.verbs.validate import validate

if TYPE_CHECKING:
    from rich.console import Console

    from anysize.models.digits import Detection, PageDigit
    from anysize.validators import Report

__all__ = ["DemoResult", "demo"]

_HEADS = ("fc", "fcn", "gap", "spp")
# The training size, one more, non-square both ways, a prime, off the stride grid, and the page's.
_SIZES = tuple(
    Size.parse(text) for text in ("32x32", "33x33", "32x48", "61x40", "37x41", "64x64", "288x416")
)
_BACKGROUND = 10
# Half of the window that the classifier sees: further away, it has found something else.
_REACH_PIXELS = 8.0
_BOX_PIXELS = 32.0
_PICTURE = "page-heatmap.png"
_REPORT, _PAGE = "report.md", "report.html"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo made and found.

    Attributes:
        folder: Where everything lies.
        reports: One for each file: its name and how it was validated.
        found: The digits that the rewritten graph found on the page.
        correct: How many of them are on the page, with that label, at that place.
        on_page: How many digits are on the page.
        has_page: The page of all reports was written, too.
        notes: What the user should know about it.
    """

    folder: Path
    reports: tuple[tuple[str, Report], ...]
    found: tuple[Detection, ...]
    correct: int
    on_page: int
    has_page: bool = True
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 where every file is right and every digit was found, else 1 (or a report's 3)."""
        codes = {report.exit_code for _, report in self.reports}
        if 1 in codes or not self.correct == self.on_page == len(self.found):
            return 1
        return max(codes)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of everything that was written to the folder."""
        models = [name for name, _ in self.reports]
        page = (_PAGE,) if self.has_page else ()
        return (*models, *(_report_name(name) for name in models), _PICTURE, _REPORT, *page)

    def print(self, console: Console) -> None:
        """Print the files × sizes table."""
        from rich.table import Table

        sizes = [str(size) for size in _SIZES]
        table = Table("file", *sizes, title="parity with PyTorch on ort-cpu: error ÷ budget")
        for name, report in self.reports:
            table.add_row(name, *_row(report))
        console.print(table)

    def summary(self) -> str:
        """Return the result in a few lines."""
        digits = " ".join(str(detection.label) for detection in self.found)
        return (
            f"page: {len(self.found)} digits found ({digits}), {self.correct} of {self.on_page} "
            f"right\nwritten to {self.folder}: {_PICTURE}, {_REPORT}, "
            f"{len(self.reports)} ONNX files and what their validation found"
            + (f"\nopen {self.folder / _PAGE} in a browser to see it" if self.has_page else "")
        )


def _row(report: Report) -> list[str]:
    """For each size, the largest error of its batches in multiples of the budget, or a verdict."""
    cells = []
    for size in _SIZES:
        here = [cell for cell in report.cells if cell.size == size]
        verdicts = sorted({str(cell.verdict) for cell in here})
        ratios = [cell.worst.deviation.ratio for cell in here if cell.worst is not None]
        cells.append(f"{max(ratios):.2f}" if verdicts == ["pass"] else ", ".join(verdicts))
    return cells


def demo(out: Path | str = "anysize-demo", *, progress: Progress = silent) -> DemoResult:
    """Export the digits classifier with four heads, rewrite its FC file, validate all, read a page.

    Writes `digits-HEAD.onnx`, the rewritten `digits-any.onnx`, a JSON report for each, the picture
    `page-heatmap.png`, `report.md`, and, where jinja2 is installed, the page `report.html`.

    Args:
        out: The folder; made if it does not exist.
        progress: Told how far it is.

    Raises:
        AnysizeError: A subclass says what cannot be used.
    """
    from anysize.validators.report import join

    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"output {folder}: cannot be made: {error.strerror}") from error
    files = [folder / f"digits-{head}.onnx" for head in _HEADS]
    rewritten = folder / "digits-any.onnx"
    steps = 2 * len(_HEADS) + 3
    for step, (head, path) in enumerate(zip(_HEADS, files, strict=True)):
        progress(step, steps, f"exporting digits with head {head}")
        export("digits", path, head=head, verify=False)
    progress(len(_HEADS), steps, f"rewriting {files[0].name}")
    rewrite(files[0], rewritten)

    reports = []
    for step, path in enumerate([*files, rewritten], start=len(_HEADS) + 1):
        progress(step, steps, f"validating {path.name} at {len(_SIZES)} sizes")
        original = files[0] if path == rewritten else None
        report = validate(path, original, sizes=_SIZES)
        _write_text(folder / _report_name(path.name), report.to_json())
        reports.append((path.name, report))
    progress(steps - 1, steps, "reading the page")
    result = _read_page(folder, rewritten, tuple(reports))
    try:
        _write_text(folder / _PAGE, join([report for _, report in reports]).to_html())
    except UsageError as error:  # jinja2 is an extra
        notes = (f"{_PAGE} was not written: {error}",)
        result = replace(result, has_page=False, notes=notes)
    _write_text(folder / _REPORT, _markdown(result))
    return result


def _read_page(folder: Path, model: Path, reports: tuple[tuple[str, Report], ...]) -> DemoResult:
    """Run the rewritten graph over the page, find the digits, and draw where it saw them."""
    import numpy as np

    from anysize.models.digits import detect, load_page

    page = load_page()
    size = Size(*page.pixels.shape[2:])
    found_map = class_map(model, size, lambda rows, columns: page.pixels[:, :, rows, columns])
    scores, place = found_map.scores, found_map.place
    # A detection counts pixel centres as whole numbers, a placement pixel edges.
    centre = (place.offset[0] - 0.5, place.offset[1] - 0.5)
    found = detect(scores, stride=place.stride, offset=centre, background=_BACKGROUND)
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=0))
    seen = 1.0 - powers[_BACKGROUND] / powers.sum(axis=0)
    height, width = page.pixels.shape[2:]
    labels = [
        Label(f"{one.label} ({one.score:.2f})", one.y + 0.5, one.x + 0.5, _BOX_PIXELS)
        for one in found
    ]
    panels = [
        Panel(f"the page: {height}×{width} pixels; the classifier was trained on 32×32"),
        Panel("digits-any.onnx, one run: where it sees a digit, and which", seen, labels),
    ]
    draw_panels(folder / _PICTURE, page.pixels[0, 0], panels, place)
    return DemoResult(
        folder=folder,
        reports=reports,
        found=found,
        correct=_count_correct(found, page.digits),
        on_page=len(page.digits),
    )


def _count_correct(found: Sequence[Detection], truth: Sequence[PageDigit]) -> int:
    """Count detections that have a digit of their label within reach, each digit once."""
    left = list(truth)
    correct = 0
    for one in found:
        near = [
            digit
            for digit in left
            if digit.label == one.label
            and max(abs(digit.y - one.y), abs(digit.x - one.x)) <= _REACH_PIXELS
        ]
        if near:
            left.remove(near[0])
            correct += 1
    return correct


def _report_name(model: str) -> str:
    return f"{model.removesuffix('.onnx')}.report.json"


def _write_text(path: Path, text: str) -> None:
    with atomic_output(path) as stream:
        stream.write(f"{text}\n".encode())


def _markdown(result: DemoResult) -> str:
    """Write the short report."""
    sizes = [str(size) for size in _SIZES]
    lines = [
        "# anysize demo",
        "",
        "A digits classifier with a fully connected head takes 32×32 images and nothing else.",
        "Here it is exported with four heads, its FC file is rewritten into convolutions, and all",
        "five files are compared with PyTorch in float64 terms.",
        "",
        "Largest error ÷ budget on ONNX Runtime CPU; below 1 passes. `rejected`: PyTorch refuses",
        "the size, and so does the file.",
        "",
        f"| file | {' | '.join(sizes)} |",
        f"|---|{'---|' * len(sizes)}",
        *(f"| {name} | {' | '.join(_row(report))} |" for name, report in result.reports),
        "",
        f"The rewritten graph reads a whole page in one run and finds {len(result.found)} digits,",
        f"{result.correct} of {result.on_page} right:",
        "",
        f"![the page and where the digits were seen]({_PICTURE})",
        "",
        "| digit | row | column | probability |",
        "|---|---|---|---|",
        *(f"| {d.label} | {d.y:.0f} | {d.x:.0f} | {d.score:.2f} |" for d in result.found),
        "",
        "Everything in this folder:",
        "",
        *(f"- `{name}`" for name in result.files),
    ]
    return "\n".join(lines)
