"""What the inputs and outputs of a file are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from anysize.errors import UsageError
from anysize.surgery.graph import subgraphs

__all__ = ["new_names", "rename"]


def new_names(
    what: str, values: Sequence[onnx.ValueInfoProto], names: Sequence[str]
) -> dict[str, str]:
    """Pair what the inputs or outputs of a graph are called with what they shall be called.

    Args:
        what: `input` or `output`, for messages.
        values: Those of the graph, in order.
        names: The new names, in order; none leaves all as they are.

    Raises:
        UsageError: There are more or fewer names, an empty one, or one twice.
    """
    old = [value.name for value in values]
    if not names:
        return {}
    if len(names) != len(old) or len(set(names)) < len(names) or "" in names:
        raise UsageError(
            f"--{what}-names {','.join(names)}: expected {len(old)}, each another, for "
            f"{', '.join(old)}"
        )
    return dict(zip(old, names, strict=True))


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give tensors of a graph new names; another tensor that has one already moves out of the way.

    Args:
        graph: Edited in place, its subgraphs too.
        names: Old name → new name.
    """
    inner = {new: f"{new}/inner" for new in names.values() if new not in names}
    _rename(graph, {**inner, **names})


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for places in (node.input, node.output):
            for place, name in enumerate(places):
                places[place] = names.get(name, name)
        for below in subgraphs(node):
            _rename(below, names)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
