"""`anysize export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from anysize.cli.console import finish, progress
from anysize.cli.options import (
    FILE,
    MODEL,
    HandedOut,
    JsonFlag,
    MaxSize,
    MinSize,
    ModelArgs,
    NoVerify,
    Out,
    Seed,
    TrainingSize,
    Verify,
    Weights,
    listed,
)
from anysize.cli.preparation import Preparation
from anysize.cli.supervisor import writing
from anysize.errors import UsageError
from anysize.sources import model_args as parsed_args

_ZOO = "Heads of the zoo"

if TYPE_CHECKING:
    from anysize.heads import Output

__all__ = ["export"]


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A zoo name (alexnet, vgg16, resnet18, nin, lenet, digits, …), torchvision:NAME, "
            "timm:NAME, package.module:NAME or file.py:NAME.",
        ),
    ],
    out: Out,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            "--to",
            rich_help_panel=MODEL,
            help="fc, fcn, gap, cam, spp, roi, adaptive or resize; the network's own if left out. "
            "A model that is not in the zoo: as-is, or converted to fcn, cam, adaptive or resize.",
        ),
    ] = None,
    output: HandedOut | None = None,
    weights: Weights = None,
    model_args: ModelArgs = None,
    size: TrainingSize = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    dynamic: Annotated[
        str | None,
        typer.Option(
            metavar="AXES",
            help="The axes that shall be free, of batch,height,width; all that can be if left out.",
            rich_help_panel=FILE,
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            rich_help_panel=MODEL,
            metavar="NAME:SHAPE",
            help="An input beside the image, its axes without the batch: facts:4, or "
            "right:3,height,width. Once for each.",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The argument that is the image; the first one by default.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    input_names: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="What the file calls its inputs; input if left out.",
            rich_help_panel=FILE,
        ),
    ] = None,
    output_names: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="What the file calls its outputs; logits and map if left out.",
            rich_help_panel=FILE,
        ),
    ] = None,
    opset: Annotated[
        int, typer.Option(help="ONNX operator set to write, 13 to 24.", rich_help_panel=FILE)
    ] = 18,
    half: Annotated[
        bool,
        typer.Option(
            "--half",
            help="Weights and body in float16; input and output float32.",
            rich_help_panel=FILE,
        ),
    ] = False,
    seed: Seed = 0,
    external_data: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(help="Weights beside the file instead of in it.", rich_help_panel=FILE),
    ] = "auto",
    verify: Verify = "quick",
    no_verify: NoVerify = False,
    levels: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…", help="spp: bins along each axis, 4,2,1.", rich_help_panel=_ZOO
        ),
    ] = None,
    bins: Annotated[
        Literal["adaptive", "paper"] | None,
        typer.Option(help="spp: adaptive, n bins from any map, or paper.", rich_help_panel=_ZOO),
    ] = None,
    pooling: Annotated[
        Literal["average", "max"] | None,
        typer.Option(help="adaptive: how a bin is reduced, average or max.", rich_help_panel=_ZOO),
    ] = None,
    roi: Annotated[
        Literal["align", "max"] | None,
        typer.Option(
            help="roi: align, RoIAlign, or max, the pooling of Fast R-CNN.", rich_help_panel=_ZOO
        ),
    ] = None,
    sampling_ratio: Annotated[
        int | None,
        typer.Option(
            help="roi: samples in a bin along each axis; 0 as many as cells.", rich_help_panel=_ZOO
        ),
    ] = None,
    json: JsonFlag = False,
    *,
    images: Preparation,
) -> None:
    """Export a classifier with dynamic batch, height and width, and prove it right."""
    from anysize.verbs.export import export as run
    from anysize.verbs.export import head_options, input_shapes

    writing(out)
    with progress() as show:
        done = run(
            source,
            out,
            head=head,
            output=cast("Output | None", output),  # what is none is refused there
            weights=weights,
            model_args=parsed_args(model_args),
            size=size,
            min_size=min_size,
            max_size=max_size,
            dynamic=dynamic,
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
            input_names=listed(input_names),
            output_names=listed(output_names),
            preprocessing=images.preprocessing,
            class_names=images.class_names,
            progress=show,
        )
    finish(done, json=json)


def _levels(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(entry) for entry in text.split(","))
    except ValueError as error:
        raise UsageError(f"--levels {text!r}: expected whole numbers such as 4,2,1") from error
