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

_SIZES, _BATCH = "auto", "1,2"


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
    sizes: Annotated[str, typer.Option(help="HEIGHTxWIDTH, comma-separated, or auto.")] = _SIZES,
    batch: Annotated[str, typer.Option(help="Images in a batch, comma-separated.")] = _BATCH,
    seed: Seed = 0,
    atol: Annotated[float | None, typer.Option(help="Replaces the error budget.")] = None,
    rtol: Annotated[float | None, typer.Option(help="Replaces the error budget.")] = None,
    arbiter: Annotated[
        Literal["float64", "none"],
        typer.Option(help="float64, or none: judge by the float32 reference alone."),
    ] = "float64",
    reference_device: Annotated[
        Literal["cpu", "cuda"],
        typer.Option(help="Where PyTorch computes the reference, with TF32 off."),
    ] = "cpu",
    tf32: Annotated[
        bool, typer.Option("--tf32", help="Allow TF32 on a GPU; judged by a profile of its own.")
    ] = False,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz", help="Arrays for the graph's inputs; replaces --sizes and --batch."
        ),
    ] = None,
    bisect: Annotated[
        bool,
        typer.Option(
            "--bisect",
            help="Find the first wrong tensor of the first failing cell, and save its images here.",
        ),
    ] = False,
    json: Json = None,
    junit: Junit = None,
    markdown: Markdown = None,
    html: Html = None,
) -> None:
    """Run a graph on each runtime at each size and compare it with its reference."""
    from anysize.validators.report.table import print_report
    from anysize.verbs.validate import validate as run

    if inputs is not None and (sizes, batch) != (_SIZES, _BATCH):
        raise UsageError("--inputs says size and batch itself; leave out --sizes and --batch")
    given = (weights, Path(reference) if reference else None, inputs)
    files = ReportFiles(json, junit, markdown, html)
    files.check([model, *(path for path in given if path is not None)])
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
            reference_device=reference_device,
            tf32=tf32,
            inputs=inputs,
            bisect=Path() if bisect else None,
            progress=show,
        )
    files.write(report)
    if files.is_json_on_stdout:
        result(report.to_json())
    else:
        print_report(report, results_console())
    raise typer.Exit(report.exit_code)
