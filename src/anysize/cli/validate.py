"""`anysize validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from anysize.cli.console import progress, result, results_console
from anysize.cli.options import Seed, Weights
from anysize.cli.report_files import Html, Json, Junit, Markdown, ReportFiles
from anysize.errors import UsageError
from anysize.sizes import parse_sizes

__all__ = ["validate"]


def _batches(text: str) -> tuple[int, ...]:
    try:
        batches = tuple(dict.fromkeys(int(entry) for entry in text.split(",") if entry.strip()))
    except ValueError as error:
        raise UsageError(f"batch {text!r}: expected whole numbers such as 1,2") from error
    if not batches or not all(1 <= batch <= 1024 for batch in batches):
        raise UsageError(f"batch {text!r}: expected whole numbers from 1 to 1024, such as 1,2")
    return batches


def validate(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx")],
    reference: Annotated[
        str | None,
        typer.Option(
            help="SOURCE or another .onnx file; left out, the model that the file says it is."
        ),
    ] = None,
    weights: Weights = None,
    runtimes: Annotated[
        str, typer.Option(help="Names from `anysize runtimes`, comma-separated, or all.")
    ] = "ort-cpu",
    sizes: Annotated[str, typer.Option(help="HEIGHTxWIDTH, comma-separated, or auto.")] = "auto",
    batch: Annotated[str, typer.Option(help="Images in a batch, comma-separated.")] = "1,2",
    seed: Seed = 0,
    atol: Annotated[float | None, typer.Option(help="Replaces the error budget.")] = None,
    rtol: Annotated[float | None, typer.Option(help="Replaces the error budget.")] = None,
    arbiter: Annotated[
        Literal["float64", "none"],
        typer.Option(help="float64, or none: judge by the float32 reference alone."),
    ] = "float64",
    json: Json = None,
    junit: Junit = None,
    markdown: Markdown = None,
    html: Html = None,
) -> None:
    """Run a graph on each runtime at each size and compare it with its reference."""
    from anysize.validators.report.table import print_report
    from anysize.verbs.validate import validate as run

    inputs = [model, *([weights] if weights else []), *([Path(reference)] if reference else [])]
    files = ReportFiles(json, junit, markdown, html)
    files.check(inputs)
    with progress() as show:
        report = run(
            model,
            reference=reference,
            weights=weights,
            runtimes=runtimes,
            sizes="auto" if sizes == "auto" else parse_sizes(sizes),
            batches=_batches(batch),
            seed=seed,
            atol=atol,
            rtol=rtol,
            arbiter=arbiter,
            progress=show,
        )
    files.write(report)
    if files.is_json_on_stdout:
        result(report.to_json())
    else:
        print_report(report, results_console())
    raise typer.Exit(report.exit_code)
