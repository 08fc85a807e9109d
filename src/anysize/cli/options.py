"""Options that several commands share, each with one help text, and the groups of options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

__all__ = [
    "COMPARISON",
    "FILE",
    "MODEL",
    "PREPROCESSING",
    "PROOF",
    "REPORT",
    "Batches",
    "Bgr",
    "Classes",
    "Crop",
    "HandedOut",
    "JsonFlag",
    "MaxSize",
    "Mean",
    "MinSize",
    "ModelArgs",
    "NoVerify",
    "Out",
    "Scale",
    "Seed",
    "Std",
    "TrainingSize",
    "Verify",
    "Weights",
    "listed",
]

# The groups in which a command's help shows its options.
MODEL: Final = "The model"
FILE: Final = "The file"
PROOF: Final = "The proof"
COMPARISON: Final = "The comparison"
REPORT: Final = "The report"
PREPROCESSING: Final = "How images are prepared"

Out = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="FILE", help="The file to write.", rich_help_panel=FILE),
]
HandedOut = Annotated[
    str,
    typer.Option(
        "--output",
        metavar="map|logits|both",
        help="What a head with a class map hands out: the map, logits, which are the mean of its "
        "cells, or both, logits first.",
        rich_help_panel=FILE,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Checkpoint: safetensors, or a torch file that holds only tensors.",
        rich_help_panel=MODEL,
    ),
]
ModelArgs = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help="""What SOURCE is built with, such as '{"num_classes": 12}'.""",
        rich_help_panel=MODEL,
    ),
]
TrainingSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="The image size that the model was trained at: 224, or 224x320, height first.",
        rich_help_panel=MODEL,
    ),
]
MinSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Smallest image to take; the network's own if left out.",
        rich_help_panel=FILE,
    ),
]
MaxSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Largest image to take; no bound if left out.",
        rich_help_panel=FILE,
    ),
]
Batches = Annotated[
    str,
    typer.Option(
        "--batches",
        "--batch",
        metavar="N,N",
        help="Numbers of images in a batch.",
        rich_help_panel=COMPARISON,
    ),
]
Seed = Annotated[
    int,
    typer.Option(min=0, help="Seeds random weights and inputs.", rich_help_panel=MODEL),
]
Verify = Annotated[
    Literal["quick", "full", "off"],
    typer.Option(
        help="Prove the file before it appears: full, at the sizes of auto; quick, at the same "
        "kinds of sizes, chosen by what they cost; or off.",
        rich_help_panel=PROOF,
    ),
]
NoVerify = Annotated[
    bool,
    typer.Option("--no-verify", help="The same as --verify off.", rich_help_panel=PROOF),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="M,M,…",
        help="What the network's images have taken off, a number or one for each channel; of "
        "values that --scale has scaled.",
        rich_help_panel=PREPROCESSING,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="S,S,…",
        help="What they are divided by then, likewise.",
        rich_help_panel=PREPROCESSING,
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER",
        help="What values from 0 to 255 are multiplied by: 1/255, or 1.",
        rich_help_panel=PREPROCESSING,
    ),
]
Bgr = Annotated[
    bool,
    typer.Option(
        "--bgr", help="The network takes blue first, not red.", rich_help_panel=PREPROCESSING
    ),
]
Crop = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="The part of an image that is kept where it is cropped, 0 to 1.",
        rich_help_panel=PREPROCESSING,
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Names of the classes, one a line, in the order of the outputs.",
        rich_help_panel=PREPROCESSING,
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def listed(text: str | None) -> tuple[str, ...]:
    """Read names that commas separate."""
    return tuple(entry.strip() for entry in text.split(",")) if text else ()
