"""`anysize inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anysize.cli.console import result
from anysize.cli.options import JsonFlag
from anysize.sizes import parse_sizes

__all__ = ["inspect"]


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx")],
    sizes: Annotated[
        str | None, typer.Option(help="Sizes to try, such as 224x224,256x320.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Tell what head an ONNX file has, which sizes it takes, and what could be done about it."""
    from anysize.verbs.inspect import inspect as run

    inspection = run(model, parse_sizes(sizes) if sizes else ())
    result(inspection.to_json() if json else inspection.to_text())
