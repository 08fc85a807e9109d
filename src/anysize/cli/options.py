"""Options that several commands share, each with one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "JsonFlag",
    "MaxSize",
    "MinSize",
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
    bool,
    typer.Option("--verify/--no-verify", help="Prove the file before it appears."),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
