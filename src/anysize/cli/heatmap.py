"""`anysize heatmap`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anysize.cli.console import finish
from anysize.cli.options import JsonFlag
from anysize.cli.preparation import WholePreparation

__all__ = ["heatmap"]


def heatmap(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A graph with a map.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG or JPEG, of any size.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The PNG to write.")],
    class_: Annotated[
        str | None, typer.Option("--class", metavar="NAME|INDEX", help="Draw this class only.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many of the strongest classes to draw.")] = 3,
    output: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The map to draw, where the file has several."),
    ] = None,
    json: JsonFlag = False,
    *,
    images: WholePreparation,
) -> None:
    """Draw where in an image a fully convolutional graph sees its classes."""
    from anysize.verbs.heatmap import heatmap as run

    done = run(
        model,
        image,
        out,
        class_=class_,
        top=top,
        output=output,
        preprocessing=images.preprocessing,
        class_names=images.class_names,
    )
    finish(done, json=json)
