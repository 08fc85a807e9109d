"""`anysize rewrite`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from anysize.cli.console import finish, progress
from anysize.cli.options import (
    MODEL,
    PROOF,
    HandedOut,
    JsonFlag,
    ModelArgs,
    NoVerify,
    Out,
    TrainingSize,
    Verify,
    Weights,
)
from anysize.cli.preparation import Preparation
from anysize.cli.supervisor import writing
from anysize.sources import model_args as parsed_args

if TYPE_CHECKING:
    from anysize.heads import Output

__all__ = ["rewrite"]


def rewrite(
    model: Annotated[Path, typer.Argument(metavar="IN.onnx", help="A classifier.")],
    out: Out,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            "--head",
            metavar="HEAD",
            rich_help_panel=MODEL,
            help="auto: the one of fcn, gap and dynamic that frees what is fixed; fcn: "
            "convolutions for FC layers; cam: the class map of a head that pools globally; gap: "
            "pooling windows as large as the map made global; adaptive: the feature map pooled for "
            "FC layers that stay; resize: the image resized to the training size; dynamic: free "
            "axes and no other layer.",
        ),
    ] = "auto",
    size: TrainingSize = None,
    output: HandedOut = "map",
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE",
            rich_help_panel=PROOF,
            help="A node whose number is a constant, although it could stem from the training "
            "size; repeatable.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            rich_help_panel=PROOF,
            help="The module that the file was exported from: the new file is compared with it, "
            "and it settles what a number means.",
        ),
    ] = None,
    weights: Weights = None,
    model_args: ModelArgs = None,
    verify: Verify = "quick",
    no_verify: NoVerify = False,
    json: JsonFlag = False,
    *,
    images: Preparation,
) -> None:
    """Rewrite a fixed-size graph into one for any size, without its PyTorch model."""
    from anysize.verbs.rewrite import rewrite as run

    writing(out)
    with progress() as show:
        done = run(
            model,
            out,
            to=to,
            size=size,
            output=cast("Output", output),
            keep=tuple(keep or ()),
            reference=reference,
            weights=weights,
            model_args=parsed_args(model_args),
            verify="off" if no_verify else verify,
            preprocessing=images.preprocessing,
            class_names=images.class_names,
            progress=show,
        )
    finish(done, json=json)
