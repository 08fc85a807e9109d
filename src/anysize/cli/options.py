"""Options that several commands share, each with one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "Bgr",
    "Classes",
    "Crop",
    "JsonFlag",
    "MaxSize",
    "Mean",
    "MinSize",
    "NoVerify",
    "Output",
    "Scale",
    "Seed",
    "Std",
    "TrainingSize",
    "Verify",
    "Weights",
]

Output = Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The file to write.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Checkpoint: safetensors, or a torch file that holds only tensors."
    ),
]
TrainingSize = Annotated[
    str | None, typer.Option(metavar="HxW", help="The image size that the model was trained at.")
]
MinSize = Annotated[
    str | None,
    typer.Option(metavar="HxW", help="Smallest image to take; the network's own if left out."),
]
MaxSize = Annotated[
    str | None, typer.Option(metavar="HxW", help="Largest image to take; no bound if left out.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seeds random weights and inputs.")]
Verify = Annotated[
    Literal["quick", "full", "off"],
    typer.Option(
        help="Prove the file before it appears: full, at the sizes of auto; quick, at the same "
        "kinds of sizes, chosen by what they cost; or off."
    ),
]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="The same as --verify off.")]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="M,M,…",
        help="What the network's images have taken off, a number or one for each channel; of "
        "values that --scale has scaled.",
    ),
]
Std = Annotated[
    str | None, typer.Option(metavar="S,S,…", help="What they are divided by then, likewise.")
]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER", help="What values from 0 to 255 are multiplied by: 1/255, or 1."
    ),
]
Bgr = Annotated[bool, typer.Option("--bgr", help="The network takes blue first, not red.")]
Crop = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="The part of an image that is kept where it is cropped, 0 to 1.",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Names of the classes, one a line, in the order of the outputs."
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
