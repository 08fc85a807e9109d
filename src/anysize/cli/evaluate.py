"""`anysize evaluate` and `anysize benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from anysize.class_names import read_class_names
from anysize.cli.console import progress, result, results_console
from anysize.cli.options import Bgr, Classes, Crop, Mean, Scale, Std, TrainingSize, Weights
from anysize.cli.report_files import Html, Json, ReportFiles
from anysize.preprocessing import preprocessing_of_texts

if TYPE_CHECKING:
    from anysize.validators.evaluation import Evaluation

__all__ = ["benchmark", "evaluate"]

_Models = Annotated[
    list[str], typer.Argument(metavar="MODEL…", help="ONNX files, and SOURCEs, which are exported.")
]
_Heads = Annotated[
    str,
    typer.Option(
        metavar="HEAD,…",
        help="Heads to export each SOURCE with, or to rewrite each file to; as-is is the file "
        "itself. Their own if left out.",
    ),
]
_Sizes = Annotated[
    str,
    typer.Option(
        help="HEIGHTxWIDTH, comma-separated; auto: 0.75, 1, 1.5, 2 and 3 times the training size; "
        "quick: 1 and 2 times."
    ),
]
_Runtimes = Annotated[
    str,
    typer.Option(
        "--runtimes",
        "--runtime",
        help="Names from `anysize runtimes`, comma-separated, or all.",
    ),
]
_Batch = Annotated[int, typer.Option(help="Images in a run.")]
_WarmUp = Annotated[int, typer.Option(help="Runs before the timed ones.")]
_Runs = Annotated[int, typer.Option(help="Timed runs; fewer where they take more than 20 s.")]
_Folder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Keeps what has been found; run again, it goes on where it stopped."
    ),
]


def evaluate(
    models: _Models,
    data: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER|CSV", help="A folder of images for each class, or a CSV of path,label."
        ),
    ],
    heads: _Heads = "",
    weights: Weights = None,
    size: TrainingSize = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="What answers shall agree with, at the size it was made for; the first model if "
            "left out.",
        ),
    ] = None,
    sizes: _Sizes = "auto",
    fit: Annotated[
        Literal["crop", "resize", "none"],
        typer.Option(
            help="crop: resized with their proportions kept, and cropped; resize: without regard "
            "to their proportions; none: each image as it is."
        ),
    ] = "crop",
    runtimes: _Runtimes = "ort-cpu",
    batch: _Batch = 1,
    warm_up: _WarmUp = 3,
    runs: _Runs = 20,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    bgr: Bgr = False,
    crop: Crop = None,
    classes: Classes = None,
    folder: _Folder = None,
    json: Json = None,
    html: Html = None,
) -> None:
    """Classify labelled images at several sizes: accuracy, agreement, latency and memory."""
    from anysize.verbs.evaluate import evaluate as run

    files = _files(json, html, models, data, weights, classes)
    with progress() as show:
        evaluation = run(
            models,
            data,
            heads=heads,
            weights=weights,
            size=size,
            reference=reference,
            sizes=sizes,
            fit=fit,
            runtimes=runtimes,
            batch=batch,
            warm_up=warm_up,
            runs=runs,
            preprocessing=preprocessing_of_texts(
                mean=mean, std=std, scale=scale, bgr=bgr, crop=crop
            ),
            class_names=read_class_names(classes) if classes else None,
            folder=folder,
            progress=show,
        )
    _finish(evaluation, files)


def benchmark(
    models: _Models,
    heads: _Heads = "",
    weights: Weights = None,
    size: TrainingSize = None,
    sizes: _Sizes = "auto",
    runtimes: _Runtimes = "ort-cpu",
    batch: _Batch = 1,
    warm_up: _WarmUp = 3,
    runs: _Runs = 20,
    folder: _Folder = None,
    json: Json = None,
    html: Html = None,
) -> None:
    """Measure latency, images per second and peak memory at several sizes."""
    from anysize.verbs.evaluate import benchmark as run

    files = _files(json, html, models, weights)
    with progress() as show:
        evaluation = run(
            models,
            heads=heads,
            weights=weights,
            size=size,
            sizes=sizes,
            runtimes=runtimes,
            batch=batch,
            warm_up=warm_up,
            runs=runs,
            folder=folder,
            progress=show,
        )
    _finish(evaluation, files)


def _files(
    json: str | None, html: Path | None, models: list[str], *others: Path | None
) -> ReportFiles:
    """Say where the result goes, and refuse to put it in the place of what is read."""
    from anysize.verbs.validate import files_of

    files = ReportFiles(json=json, html=html)
    given = [path for path in others if path is not None]
    files.check([*given, *(files_of(map(Path, models)) if files.names_any else ())])
    return files


def _finish(evaluation: Evaluation, files: ReportFiles) -> NoReturn:
    from anysize.validators.evaluation import evaluation_table

    files.write(evaluation)
    if files.is_json_on_stdout:
        result(evaluation.to_json())
    else:
        results_console().print(evaluation_table(evaluation))
    raise typer.Exit(evaluation.exit_code)
