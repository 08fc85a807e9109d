"""The table of an evaluation, for a terminal and for a notebook."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from anysize.validators.evaluation.evaluation import Evaluation, EvaluationRow, Timing
from anysize.words import printable

__all__ = [
    "Grid",
    "evaluation_table",
    "facts",
    "grid",
    "html_table",
    "row_name",
    "text_table",
    "title",
]

_SHOWN_CONFUSIONS = 3
_CONFUSED_ROWS = 8
_WIDTH = 160
_SAID = {
    "flags": "as it was given",
    "file": "as the file says",
    "assumed": "assumed: neither the file nor a flag says it",
}
_FITS = {
    "crop": "crop: resized with their proportions kept, and cropped",
    "resize": "resize: resized without regard to their proportions",
    "none": "none: each image as it is",
}
_STYLES = {"ran": "", "rejected": "dim", "failed": "bold red"}


@dataclass(frozen=True, slots=True)
class Grid:
    """The table in words: the first columns say which row it is, the others are numbers.

    Attributes:
        headings: Of the columns.
        named: How many of them say which row it is.
        cells: A text for each row and column; the first number of a row that did not run says so.
    """

    headings: tuple[str, ...]
    named: int
    cells: tuple[tuple[str, ...], ...]


def grid(evaluation: Evaluation) -> Grid:
    """Write the columns that have something to say."""
    named: dict[str, Callable[[EvaluationRow], str]] = {
        "model": lambda row: row.model,
        "head": lambda row: row.head,
        "runtime": lambda row: row.runtime,
        "size": lambda row: str(row.size or "as it is"),
    }
    if len(evaluation.runtimes) == 1:
        del named["runtime"]
    shares = {"top-1": "top1", "top-5": "top5", "agrees": "agreement"}
    shares = shares if evaluation.data else {}
    headings = (*shares, "ms", "quartiles", "images/s", "peak MiB")

    def cells(row: EvaluationRow) -> tuple[str, ...]:
        names = tuple(text(row) for text in named.values())
        if row.timing is None:
            return (*names, row.status, *("" for _ in headings[1:]))
        figures = (_share(getattr(row.accuracy, name)) for name in shares.values())
        return (*names, *figures, *_times(row.timing))

    return Grid((*named, *headings), len(named), tuple(map(cells, evaluation.rows)))


def evaluation_table(evaluation: Evaluation) -> RenderableType:
    """Draw an evaluation for a terminal."""
    table = Table(title=Text(printable(title(evaluation)), "bold"))
    drawn = grid(evaluation)
    for place, heading in enumerate(drawn.headings):
        is_number = place >= drawn.named or heading == "size"
        table.add_column(heading, justify="right" if is_number else "left")
    for row, cells in zip(evaluation.rows, drawn.cells, strict=True):
        table.add_row(*(Text(printable(cell), _STYLES[row.status]) for cell in cells))
    lines = [": ".join(fact) for fact in facts(evaluation)] + _confusions(evaluation)
    return Group(table, *(Text(printable(line)) for line in lines))


def text_table(evaluation: Evaluation) -> str:
    """Draw it as plain text."""
    stream = io.StringIO()
    Console(file=stream, width=_WIDTH).print(evaluation_table(evaluation))
    return stream.getvalue().rstrip()


def row_name(row: EvaluationRow, evaluation: Evaluation) -> str:
    """Say which row it is, with its runtime where there are several."""
    return row.label if len(evaluation.runtimes) == 1 else f"{row.label} on {row.runtime}"


def title(evaluation: Evaluation) -> str:
    """Say what was evaluated, and where."""
    where = ", ".join(f"{one.package} {one.version}".strip() for one in evaluation.runtimes)
    if not evaluation.data:
        return f"benchmark on {where}"
    count = f"{evaluation.images} images of {evaluation.classes} classes"
    return f"{evaluation.data}: {count} on {where}"


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what is to be known beside the numbers, each with its name."""
    found = _not_run(evaluation)
    if evaluation.data:
        found += _preprocessing(evaluation)
        found.append(("fit", _FITS[evaluation.fit]))
    if evaluation.reference:
        found.append(("agrees", f"its strongest class is that of {evaluation.reference}"))
    for row in evaluation.rows:
        name = row_name(row, evaluation)
        if row.accuracy and row.accuracy.refused:
            found.append((name, f"images of a size that it refuses: {row.accuracy.refused}"))
        if row.accuracy and row.accuracy.not_finite:
            words = f"images answered with NaN or infinity: {row.accuracy.not_finite}"
            found.append((name, words))
    if evaluation.broken_count:
        more = " …" if evaluation.broken_count > len(evaluation.broken) else ""
        words = f"{evaluation.broken_count}, which count nowhere: {', '.join(evaluation.broken)}"
        found.append(("broken images", words + more))
    batches = sorted({row.timing.batch for row in evaluation.rows if row.timing})
    runs = f"median and quartiles of runs, batch {', '.join(map(str, batches)) or 'unknown'}"
    found.append(("ms", f"{runs}, {evaluation.threads} threads, {evaluation.machine}"))
    return [*found, *(("note", note) for note in evaluation.notes)]


def _not_run(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Say each reason once, with the sizes that it is of."""
    sizes: dict[tuple[str, str], list[str]] = {}
    for row in evaluation.rows:
        if row.reason:
            name = " ".join(filter(None, (row.model, row.head, row.runtime)))
            sizes.setdefault((name, f"{row.status}: {row.reason}"), []).append(str(row.size or ""))
    return [(f"{name} at {', '.join(at)}", why) for (name, why), at in sizes.items()]


def _preprocessing(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Say each once, with the models that it is of where these are not all."""
    of: dict[str, list[str]] = {}
    for model in evaluation.models:
        words = f"{model.preprocessing} ({_SAID[model.preprocessing_from]})"
        of.setdefault(words, []).append(f"{model.model} {model.head}".strip())
    for words, names in of.items():
        yield "preprocessing" + (f" of {', '.join(names)}" if len(of) > 1 else ""), words


def _confusions(evaluation: Evaluation) -> list[str]:
    """Say what is taken for what, of the first rows."""
    lines = []
    for row in evaluation.rows:
        if row.accuracy and row.accuracy.confusions:
            first = row.accuracy.confusions[:_SHOWN_CONFUSIONS]
            words = ", ".join(f"{one.label} for {one.taken_for} ({one.count})" for one in first)
            lines.append(f"{row_name(row, evaluation)} takes {words}")
    left = len(lines) - _CONFUSED_ROWS
    more = [f"and {left} more confused rows, which --html and --json tell"] if left > 0 else []
    return lines[:_CONFUSED_ROWS] + more


def html_table(evaluation: Evaluation) -> str:
    """Write the table as HTML; every value is escaped."""
    drawn = grid(evaluation)

    def row(cells: Iterable[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(printable(c))}</{tag}>' for c in cells)}</tr>"

    caption = html.escape(printable(title(evaluation)))
    body = "".join(row(cells, "td") for cells in drawn.cells)
    return (
        f"<table><caption>{caption}</caption><thead>{row(drawn.headings, 'th')}</thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _times(timing: Timing) -> tuple[str, ...]:
    peak = timing.peak_memory_bytes
    return (
        f"{timing.latency_ms:.2f}",
        f"{timing.low_ms:.2f}–{timing.high_ms:.2f}",
        f"{timing.images_per_s:.1f}",
        "" if peak is None else f"{peak / 2**20:.1f}",
    )
