"""Conversion of a graph that was just exported: the same surgery that rewrites a file."""

from __future__ import annotations

import re

import onnx

from anysize.errors import DeclinedError, ExportError
from anysize.exporters.writing import rename
from anysize.heads import Output, head_kind
from anysize.sizes import Size
from anysize.surgery import HeldWeights, rewrite

__all__ = ["convert"]

_MAP = "map"


def convert(
    model: onnx.ModelProto,
    weights: HeldWeights,
    *,
    name: str,
    to: str,
    size: Size,
    output: Output = "map",
) -> str:
    """Rewrite the head of `model`, in place; a single map is called `map`.

    Args:
        model: As it was exported, with metadata.
        weights: What holds its large weights; those that must move are added.
        name: How messages call the module.
        to: A head that modules can be converted to.
        size: The training size.
        output: What the graph shall hand out, as `surgery.rewrite` takes it.

    Returns:
        Why there was nothing to convert; "" where the head was converted.

    Raises:
        DeclinedError: The head has a form that would have to be guessed; the layer is named.
        ExportError: The graph takes any size already and has no FC head for `to` to slide.
    """
    try:
        done = rewrite(model, to=to, size=size, output=output, source=weights, in_place=True)
    except DeclinedError as error:
        words = _of_export(str(error))
        raise DeclinedError(f"{name}: --head {to}: {words}", node=error.node) from error
    is_map = head_kind(to).is_fully_convolutional
    if not done.applied and is_map:
        raise ExportError(
            f"{name}: --head {to}: {done.reason}; give --head as-is, or cam for a class map"
        )
    if done.applied and is_map and output == "map" and len(model.graph.output) == 1:
        rename(model.graph, {model.graph.output[0].name: _MAP})
    return done.reason


def _of_export(words: str) -> str:
    """Name the options of a rewrite as an export has them."""
    words = re.sub(r"--keep \S+ says [^;]*?, (?=--to)", "", words)
    return re.sub(r"--to (?:gap or dynamic|gap|dynamic)\b", "--head as-is", words).replace(
        "--to ", "--head "
    )
