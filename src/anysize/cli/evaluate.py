"""`anysize evaluate` and `anysize benchmark`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from anysize.cli.console import progress, result, results_console
from anysize.cli.options import ModelArgs, TrainingSize, Weights
from anysize.cli.preparation import Preparation
from anysize.cli.report_files import ResultFiles
from anysize.sources import model_args as parsed_args

if TYPE_CHECKING:
    from anysize.validators.evaluation import Evaluation

__all__ = ["benchmark", "evaluate"]

_Models = Annotated[
    list[str], typer.Argument(metavar="MODEL…", help="ONNX files, and SOURCEs, which are exported.")
]


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured, at which sizes and where."""

    heads: Annotated[
        str,
        typer.Option(
            metavar="HEAD,…",
            help="Heads to export each SOURCE with, or to rewrite each file to; as-is is the file "
            "itself. Their own if left out.",
        ),
    ] = ""
    weights: Weights = None
    model_args: ModelArgs = None
    size: TrainingSize = None
    sizes: Annotated[
        str,
        typer.Option(
            help="HEIGHTxWIDTH, comma-separated; auto: 0.75, 1, 1.5, 2 and 3 times the training "
            "size; quick: 1 and 2 times."
        ),
    ] = "auto"
    runtimes: Annotated[
        str,
        typer.Option(
            "--runtimes",
            "--runtime",
            help="Names from `anysize runtimes`, comma-separated, or all.",
        ),
    ] = "ort-cpu"
    batch: Annotated[int, typer.Option(help="Images in a run.")] = 1
    warm_up: Annotated[int, typer.Option(help="Runs before the timed ones.")] = 3
    runs: Annotated[int, typer.Option(help="Timed runs; fewer where they take more than 20 s.")] = (
        20
    )
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keeps what has been found; run again, it goes on where it stopped.",
        ),
    ] = None

    def words(self) -> dict[str, Any]:
        """Return them as `anysize.benchmark` takes them."""
        return asdict(self) | {"model_args": parsed_args(self.model_args)}


def evaluate(
    models: _Models,
    data: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER|CSV", help="A folder of images for each class, or a CSV of path,label."
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="What answers shall agree with, at the size it was made for; the first model if "
            "left out.",
        ),
    ] = None,
    fit: Annotated[
        Literal["crop", "resize", "none"],
        typer.Option(
            help="crop: resized with their proportions kept, and cropped; resize: without regard "
            "to their proportions; none: each image as it is."
        ),
    ] = "crop",
    *,
    measured: Measured,
    images: Preparation,
    files: ResultFiles,
) -> None:
    """Classify labelled images at several sizes: accuracy, agreement, latency and memory."""
    from anysize.verbs.evaluate import evaluate as run

    _check(files, models, data, measured.weights, images.classes)
    with progress() as show:
        evaluation = run(
            models,
            data,
            reference=reference,
            fit=fit,
            **measured.words(),
            preprocessing=images.preprocessing,
            class_names=images.class_names,
            progress=show,
        )
    _finish(evaluation, files)


def benchmark(models: _Models, measured: Measured, files: ResultFiles) -> None:
    """Measure latency, images per second and peak memory at several sizes."""
    from anysize.verbs.evaluate import benchmark as run

    _check(files, models, measured.weights)
    with progress() as show:
        evaluation = run(models, **measured.words(), progress=show)
    _finish(evaluation, files)


def _check(files: ResultFiles, models: list[str], *others: Path | None) -> None:
    """Refuse to put a result in the place of what is read."""
    from anysize.verbs.validate import files_of

    given = [path for path in others if path is not None]
    files.check([*given, *(files_of(map(Path, models)) if files.names_any else ())])


def _finish(evaluation: Evaluation, files: ResultFiles) -> NoReturn:
    from anysize.validators.evaluation import evaluation_table

    files.write(evaluation)
    if files.is_json_on_stdout:
        result(evaluation.to_json())
    else:
        results_console().print(evaluation_table(evaluation))
    raise typer.Exit(evaluation.exit_code)
