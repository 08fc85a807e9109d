"""`anysize profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anysize.cli.console import result
from anysize.cli.options import JsonFlag, MaxSize
from anysize.errors import UsageError
from anysize.sizes import Size

__all__ = ["profile"]


def profile(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx")],
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="What the engine is to be fastest at.")
    ] = None,
    max_size: MaxSize = None,
    batches: Annotated[str, typer.Option(help="The least, usual and largest batch.")] = "1,1,8",
    json: JsonFlag = False,
) -> None:
    """Print an optimisation profile for TensorRT: the flags of trtexec, or JSON."""
    from anysize.verbs.profile import profile as run

    found = run(
        model,
        size=Size.parse(size) if size else None,
        max_size=Size.parse(max_size) if max_size else None,
        batches=_three(batches),
    )
    result(found.to_json() if json else "\n".join(found.flags()))


def _three(text: str) -> tuple[int, int, int]:
    words = text.split(",")
    if len(words) != 3 or not all(word.strip().isdecimal() for word in words):
        raise UsageError(f"--batches {text!r}: expected three numbers, such as 1,1,8")
    least, usual, most = map(int, words)
    return least, usual, most
