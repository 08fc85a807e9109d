"""Name the layer and the line of the user's code that a traced node comes from."""

from __future__ import annotations

import re
from pathlib import PurePath

import onnx_ir as ir

from anysize.exporters.tracing.layer_names import scopes

__all__ = ["origin", "shortened"]


def origin(node: ir.Node) -> str:
    """Name the layer, and the source line where torch recorded one."""
    layers = scopes(node)
    where = "the module itself"
    if layers:
        name, kind = layers[-1]
        where = f"layer {name!r} ({kind.rpartition('.')[2]})" if name else f"{kind} itself"
    lines = [
        line.strip()
        for line in node.metadata_props.get("pkg.torch.onnx.stack_trace", "").splitlines()
    ]
    user = [
        (place, lines[i + 1] if i + 1 < len(lines) else "")
        for i, place in enumerate(lines)
        if place.startswith("File ") and "/torch/nn/" not in place.replace("\\", "/")
    ]
    return f"{where}, {_short(user[-1][0])}: {shortened(user[-1][1])}" if user else where


def _short(place: str) -> str:
    """Write `File "/home/me/net.py", line 12, in forward` as `net.py:12`."""
    match = re.match(r'File "(.+)", line (\d+)', place)
    return f"{PurePath(match[1]).name}:{match[2]}" if match else place


def shortened(value: object) -> str:
    """Write a value in a line, and not a long one."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}…"
