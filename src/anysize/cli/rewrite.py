"""`anysize rewrite`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anysize.class_names import read_class_names
from anysize.cli.console import note, progress, result
from anysize.cli.options import (
    Bgr,
    Classes,
    Crop,
    Mean,
    NoVerify,
    Output,
    Scale,
    Std,
    TrainingSize,
    Verify,
    Weights,
)
from anysize.cli.supervisor import writing
from anysize.preprocessing import preprocessing_of_texts
from anysize.sizes import Size
from anysize.verbs.rewrite import OutputKind

__all__ = ["rewrite"]


def rewrite(
    model: Annotated[Path, typer.Argument(metavar="IN.onnx", help="A classifier.")],
    output: Output,
    to: Annotated[
        str,
        typer.Option(
            metavar="HEAD",
            help="auto: the one of fcn, gap and dynamic that frees what is fixed; fcn: "
            "convolutions for FC layers; cam: the class map of a head that pools globally; gap: "
            "pooling windows as large as the map made global; adaptive: the feature map pooled for "
            "FC layers that stay; resize: the image resized to the training size; dynamic: free "
            "axes and no other layer.",
        ),
    ] = "auto",
    size: TrainingSize = None,
    output_kind: Annotated[
        OutputKind,
        typer.Option(
            "--output",
            help="map: the dense class map; logits: the mean of its cells; both: logits first.",
        ),
    ] = "map",
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE",
            help="A node whose number is a constant, although it could stem from the training "
            "size; repeatable.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="The module that the file was exported from: the new file is compared with it, "
            "and it settles what a number means.",
        ),
    ] = None,
    weights: Weights = None,
    verify: Verify = "quick",
    no_verify: NoVerify = False,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    bgr: Bgr = False,
    crop: Crop = None,
    classes: Classes = None,
) -> None:
    """Rewrite a fixed-size graph into one for any size, without its PyTorch model."""
    from anysize.verbs.rewrite import rewrite as run

    writing(output)
    with progress() as show:
        done = run(
            model,
            output,
            to=to,
            size=Size.parse(size) if size else None,
            output_kind=output_kind,
            keep=tuple(keep or ()),
            reference=reference,
            weights=weights,
            verify="off" if no_verify else verify,
            preprocessing=preprocessing_of_texts(
                mean=mean, std=std, scale=scale, bgr=bgr, crop=crop
            ),
            class_names=read_class_names(classes) if classes else None,
            progress=show,
        )
    for line in done.notes:
        note(line)
    result(done.summary())
