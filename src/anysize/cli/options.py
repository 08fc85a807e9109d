"""Options that several commands share, each with one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "JsonFlag",
    "MaxSize",
    "MinSize",
    "NoVerify",
    "Output",
    "Seed",
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
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
