"""`anysize validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from anysize.cli.console import progress
from anysize.cli.options import COMPARISON, MODEL, REPORT, Batches, ModelArgs, Seed, Weights
from anysize.cli.report_files import ReportFiles
from anysize.errors import UsageError
from anysize.sizes import to_sizes
from anysize.sources import model_args as parsed_args

__all__ = ["validate"]

_SIZES, _BATCHES = "auto", "1,2"


def _batches(text: str) -> tuple[int, ...]:
    from anysize.validators.inputs import MAX_BATCH

    try:
        batches = tuple(dict.fromkeys(int(entry) for entry in text.split(",") if entry.strip()))
    except ValueError as error:
        raise UsageError(f"batches {text!r}: expected whole numbers such as 1,2") from error
    if not batches or not all(1 <= batch <= MAX_BATCH for batch in batches):
        raise UsageError(
            f"batches {text!r}: expected whole numbers from 1 to {MAX_BATCH}, such as 1,2"
        )
    return batches


def _per_output(option: str, texts: list[str] | None) -> dict[str, float] | None:
    """Read `NUMBER` and `OUTPUT:NUMBER`; an output's name may hold colons."""
    numbers: dict[str, float] = {}
    for text in texts or ():
        output, _, number = text.rpartition(":")
        if output in numbers:
            raise UsageError(f"--{option} {text}: was given twice for {output or 'all outputs'}")
        try:
            numbers[output] = float(number)
        except ValueError as error:
            raise UsageError(
                f"--{option} {text}: expected a number such as 1e-4, or OUTPUT:1e-4 for one output"
            ) from error
    return numbers or None


def validate(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx")],
    reference: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=MODEL,
            help="SOURCE or another .onnx file; left out, the model that the file says it is.",
        ),
    ] = None,
    weights: Weights = None,
    model_args: ModelArgs = None,
    runtimes: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME",
            help="Names from `anysize runtimes`, or all.",
            rich_help_panel=COMPARISON,
        ),
    ] = "ort-cpu",
    sizes: Annotated[
        str,
        typer.Option(
            metavar="SIZE,SIZE",
            help="Sizes such as 224 or 224x320, height first; auto, or quick.",
            rich_help_panel=COMPARISON,
        ),
    ] = _SIZES,
    batches: Batches = _BATCHES,
    seed: Seed = 0,
    atol: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[OUTPUT:]A",
            rich_help_panel=COMPARISON,
            help="With --rtol, replaces the error budget; with OUTPUT: that of one output "
            "(may be repeated).",
        ),
    ] = None,
    rtol: Annotated[
        list[str] | None,
        typer.Option(metavar="[OUTPUT:]R", help="See --atol.", rich_help_panel=COMPARISON),
    ] = None,
    arbiter: Annotated[
        Literal["float64", "none"],
        typer.Option(
            help="float64, or none: judge by the float32 reference alone.",
            rich_help_panel=COMPARISON,
        ),
    ] = "float64",
    reference_device: Annotated[
        Literal["cpu", "cuda"],
        typer.Option(
            help="Where PyTorch computes the reference, with TF32 off.", rich_help_panel=MODEL
        ),
    ] = "cpu",
    tf32: Annotated[
        bool,
        typer.Option(
            "--tf32",
            help="Allow TF32 on a GPU; judged by a profile of its own.",
            rich_help_panel=COMPARISON,
        ),
    ] = False,
    half: Annotated[
        bool,
        typer.Option(
            "--half",
            help="Judge a file with float16 weights as half precision.",
            rich_help_panel=COMPARISON,
        ),
    ] = False,
    bright: Annotated[
        bool,
        typer.Option(
            "--bright/--no-bright",
            help="Add a case of other images, eight times as bright.",
            rich_help_panel=COMPARISON,
        ),
    ] = True,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Arrays for the graph's inputs; replaces --sizes and --batches.",
            rich_help_panel=COMPARISON,
        ),
    ] = None,
    bisect: Annotated[
        bool,
        typer.Option(
            "--bisect",
            rich_help_panel=REPORT,
            help="Find the first wrong tensor of the first failing cell, and save its images here.",
        ),
    ] = False,
    *,
    files: ReportFiles,
) -> None:
    """Run a graph on each runtime at each size and compare it with its reference."""
    from anysize.validators import ValidationSpec, parse_runtimes
    from anysize.validators.diagnosis import load_inputs
    from anysize.verbs.validate import files_of, validate_file

    if inputs is not None and (sizes, batches) != (_SIZES, _BATCHES):
        raise UsageError("--inputs says size and batch itself; leave out --sizes and --batches")
    given = [path for path in (weights, inputs) if path is not None]
    models = [model, Path(reference)] if reference else [model]
    files.check([*given, *models, *(files_of(models) if files.names_any else ())])
    spec = ValidationSpec(
        runtimes=parse_runtimes(runtimes),
        sizes=to_sizes(sizes),
        batches=_batches(batches),
        seed=seed,
        atol=_per_output("atol", atol),
        rtol=_per_output("rtol", rtol),
        arbiter=arbiter,
        tf32=tf32,
        half=half,
        amplified=bright,
        inputs=None if inputs is None else load_inputs(inputs),
        bisect=Path() if bisect else None,
    )
    with progress() as show:
        report = validate_file(
            model,
            reference,
            spec,
            weights=weights,
            model_args=parsed_args(model_args),
            device=reference_device,
            progress=show,
        )
    files.finish(report)
