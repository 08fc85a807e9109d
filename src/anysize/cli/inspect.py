"""`anysize inspect`."""

from __future__ import annotations

from typing import Annotated

import typer

from anysize.cli.console import progress, result
from anysize.cli.options import JsonFlag, ModelArgs, TrainingSize, Weights
from anysize.sizes import to_sizes
from anysize.sources import model_args as parsed_args

__all__ = ["inspect"]


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL.onnx|SOURCE",
            help="A file, or a network as `anysize export` takes it.",
        ),
    ],
    sizes: Annotated[
        str | None,
        typer.Option(metavar="SIZE,SIZE", help="Sizes to try, such as 224,256x320."),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Show every layer: shape, weights, multiply-adds.")
    ] = False,
    size: TrainingSize = None,
    weights: Weights = None,
    model_args: ModelArgs = None,
    json: JsonFlag = False,
) -> None:
    """Tell what head a network has, which sizes it takes, and what could be done about it."""
    from anysize.verbs.inspect import inspect as run

    with progress() as show:
        inspection = run(
            model,
            to_sizes(sizes) if sizes else (),
            size=size,
            weights=weights,
            model_args=parsed_args(model_args),
            layers=layers,
            progress=show,
        )
    result(inspection.to_json() if json else inspection.to_text())
