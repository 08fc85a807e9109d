"""The sizes that a file has to take: those of its original, but for bounds that are said in it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size, SizeRange
from anysize.validators.references import Reference
from anysize.validators.run.file_under_test import FileUnderTest

__all__ = ["required_sizes"]


def required_sizes(
    file: FileUnderTest, original: object, training: Size | None
) -> Callable[[Size], bool]:
    """Tell at which sizes the file has to take what its original answers.

    A module checks what it is given, so its answer is enough. An ONNX file broadcasts, and answers
    empty maps: a size counts where its layers fit by PyTorch's arithmetic, or those of the file
    under test do without the guards of its sizes.

    Args:
        file: Records the bounds that the user asked for, and whether the module does at other sizes
            what no one graph does.
        original: A module, an ONNX file, or a ready reference.
        training: A size that both take.
    """
    asked = file.metadata.asked_sizes
    if not isinstance(original, (str, Path)):
        is_file = isinstance(original, Reference) and original.kind == "onnx"
        is_free = is_file or file.metadata.other_path is not None
        return lambda size: size in asked and not is_free

    @functools.cache
    def fitting() -> tuple[SizeRange, ...]:
        return _fitting(file, Path(original), training)

    return lambda size: size in asked and any(size in one for one in fitting())


def _fitting(file: FileUnderTest, original: Path, training: Size | None) -> tuple[SizeRange, ...]:
    from anysize.surgery import legal_sizes, load_model, without_guards
    from anysize.surgery.graph import Graph

    if training is None:
        return ()
    found = []
    graphs = (
        Graph(load_model(original, weights="in_file")),
        without_guards(Graph(file.model), "min", "max", "steps"),
    )
    for graph in graphs:
        try:
            found.append(legal_sizes(graph, training))
        except UnsupportedModelError:  # its sizes have no order, or the other file's do not fit
            continue
    return tuple(found)
