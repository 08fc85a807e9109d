"""Options that several commands share, each with one help text, and the groups of options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from anysize.cli.console import result
from anysize.lazy import load

__all__ = [
    "COMPARISON",
    "FILE",
    "MODEL",
    "PROOF",
    "REPORT",
    "Batches",
    "HandedOut",
    "JsonFlag",
    "MaxSize",
    "MinSize",
    "ModelArgs",
    "NoVerify",
    "Out",
    "Seed",
    "TrainingSize",
    "Verify",
    "Weights",
    "listed",
    "schema_option",
]

# The groups in which a command's help shows its options.
MODEL: Final = "The model"
FILE: Final = "The file"
PROOF: Final = "The proof"
COMPARISON: Final = "The comparison"
REPORT: Final = "The report"

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
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def schema_option(function: str) -> Any:
    """Return the option that prints a JSON Schema and does nothing else.

    Args:
        function: `package.module:name` of what returns it, imported when it is asked for.
    """

    def show(is_asked: bool) -> None:
        if is_asked:
            result(json.dumps(load(function)(), indent=2, sort_keys=True))
            raise typer.Exit

    words = "Print the JSON Schema of such a file instead."
    return typer.Option("--schema", callback=show, is_eager=True, help=words)


def listed(text: str | None) -> tuple[str, ...]:
    """Read names that commas separate."""
    return tuple(entry.strip() for entry in text.split(",")) if text else ()
