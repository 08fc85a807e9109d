"""The command lines that go on from a file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size
from anysize.verbs.original import is_known_network

if TYPE_CHECKING:
    import onnx

__all__ = ["advise"]


def advise(
    path: Path, graph: onnx.ModelProto, training: Size | None, *, has_head: bool, why: str
) -> tuple[str, ...]:
    """Write the command lines that make sense for this file."""
    from anysize.surgery import MODULE_OBJECT, read_metadata

    file, metadata = shlex.quote(str(path)), read_metadata(graph)
    advice = []
    if has_head or "--size" in why:
        size = "" if training else " --size HEIGHTxWIDTH"
        advice.append(f"anysize rewrite {file} -o any.onnx{size}")
    elif target := _freeing_target(graph):
        advice.append(f"anysize rewrite {file} --to {target} -o any.onnx")
    if not has_head and _has_pooled_head(graph):
        advice.append(f"anysize rewrite {file} -o map.onnx --to cam")
    if metadata.map_stride is not None:
        advice.append(f"anysize heatmap {file} IMAGE -o heatmap.png")
    original = " --reference SOURCE"
    if metadata.source == MODULE_OBJECT:
        original = " --reference module:function --weights FILE"
    elif metadata.model is not None and is_known_network(metadata.model):
        original = ""
    advice.append(f"anysize validate {file}{original}")
    return tuple(advice)


def _freeing_target(graph: onnx.ModelProto) -> str:
    """Name the target that frees a file which is fixed without an FC head; "" where none does."""
    from anysize.surgery import find_target, fixed_axes

    try:
        target = find_target(graph) if fixed_axes(graph) else ""
    except UnsupportedModelError:
        return ""
    return "" if target == "fcn" else target


def _has_pooled_head(graph: onnx.ModelProto) -> bool:
    from anysize.surgery import find_pooled_head

    try:
        find_pooled_head(graph)
    except UnsupportedModelError:
        return False
    return True
