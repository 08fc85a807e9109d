"""`anysize export`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from anysize.class_names import read_class_names
from anysize.cli.console import note, progress, result
from anysize.cli.options import (
    Bgr,
    Classes,
    Crop,
    MaxSize,
    Mean,
    MinSize,
    NoVerify,
    Output,
    Scale,
    Seed,
    Std,
    TrainingSize,
    Verify,
    Weights,
)
from anysize.cli.supervisor import writing
from anysize.errors import UsageError
from anysize.preprocessing import preprocessing_of_texts
from anysize.sizes import Size

__all__ = ["export"]


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A zoo name (alexnet, vgg16, resnet18, nin, lenet, digits, …), torchvision:NAME, "
            "timm:NAME, or package.module:callable.",
        ),
    ],
    output: Output,
    head: Annotated[
        str | None,
        typer.Option(
            help="fc, fcn, gap, cam, spp, roi, adaptive or resize; the network's own if left out. "
            "A model that is not in the zoo: as-is, or converted to fcn, cam, adaptive or resize."
        ),
    ] = None,
    weights: Weights = None,
    size: TrainingSize = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME:SHAPE",
            help="An input beside the image, its axes without the batch: facts:4, or "
            "right:3,height,width. Once for each.",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The argument that is the image; the first one by default."
        ),
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set to write, 13 to 24.")] = 18,
    half: Annotated[
        bool, typer.Option("--half", help="Weights and body in float16; input and output float32.")
    ] = False,
    seed: Seed = 0,
    external_data: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(help="auto, always or never: weights beside the file instead of in it."),
    ] = "auto",
    verify: Verify = "quick",
    no_verify: NoVerify = False,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    bgr: Bgr = False,
    crop: Crop = None,
    classes: Classes = None,
    levels: Annotated[
        str | None,
        typer.Option(metavar="N,N,…", help="spp of the zoo: bins along each axis, 4,2,1."),
    ] = None,
    bins: Annotated[
        Literal["adaptive", "paper"] | None,
        typer.Option(help="spp of the zoo: adaptive, n bins from any map, or paper."),
    ] = None,
    pooling: Annotated[
        Literal["average", "max"] | None,
        typer.Option(help="adaptive of the zoo: how a bin is reduced, average or max."),
    ] = None,
    roi: Annotated[
        Literal["align", "max"] | None,
        typer.Option(help="roi of the zoo: align, RoIAlign, or max, the pooling of Fast R-CNN."),
    ] = None,
    sampling_ratio: Annotated[
        int | None,
        typer.Option(help="roi of the zoo: samples in a bin along each axis; 0 as many as cells."),
    ] = None,
) -> None:
    """Export a classifier with dynamic batch, height and width, and prove it right."""
    from anysize.verbs.export import export as run
    from anysize.verbs.export import head_options, input_shapes

    writing(output)
    with progress() as show:
        done = run(
            source,
            output,
            head=head,
            weights=weights,
            size=Size.parse(size) if size else None,
            min_size=Size.parse(min_size) if min_size else None,
            max_size=Size.parse(max_size) if max_size else None,
            opset=opset,
            half=half,
            seed=seed,
            external_data=external_data,
            verify="off" if no_verify else verify,
            options=head_options(
                levels=_levels(levels),
                bins=bins,
                pooling=pooling,
                roi=roi,
                sampling_ratio=sampling_ratio,
            ),
            inputs=input_shapes(inputs or []),
            image=image,
            preprocessing=preprocessing_of_texts(
                mean=mean, std=std, scale=scale, bgr=bgr, crop=crop
            ),
            class_names=read_class_names(classes) if classes else None,
            progress=show,
        )
    for line in done.notes:
        note(line)
    result(done.summary())


def _levels(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(entry) for entry in text.split(","))
    except ValueError as error:
        raise UsageError(f"--levels {text!r}: expected whole numbers such as 4,2,1") from error
