"""What a file says of its images and classes, beside what the graph tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from anysize.class_names import check_class_names
from anysize.errors import UsageError
from anysize.preprocessing import Preprocessing
from anysize.words import and_list

if TYPE_CHECKING:
    from anysize.surgery.graph import Model

__all__ = ["describe", "size_text"]


def describe(
    model: Model, preprocessing: Preprocessing | None, class_names: Sequence[str] | None
) -> None:
    """Write preprocessing and names of classes into a model's metadata, where they are given.

    What `preprocessing` does not say stays as the metadata have it.

    Raises:
        UsageError: There are numbers for other channels, or names for other classes, than the
            graph has.
    """
    from anysize.surgery import read_metadata, write_metadata
    from anysize.surgery.graph import Graph
    from anysize.validators.inputs import declared_outputs, graph_inputs

    if class_names is None and (preprocessing is None or not preprocessing.is_said):
        return
    metadata = read_metadata(model)
    if preprocessing is not None and preprocessing.is_said:
        known = preprocessing.over(metadata.preprocessing)
        known.complete(graph_inputs(model, seed=0).channels)
        metadata = replace(metadata, preprocessing=known)
    if class_names is not None:
        shape = next(iter(declared_outputs(Graph.of(model).model).values()), ())
        classes = metadata.classes or (shape[1] if len(shape) in (2, 4) else None)
        try:
            names = check_class_names(class_names, classes)
        except UsageError as exc:
            raise UsageError(f"classes: {exc}") from exc
        metadata = replace(metadata, class_names=names, classes=len(names))
    write_metadata(model, metadata)


def size_text(size_bytes: int, beside: Sequence[str]) -> str:
    """Say how large a file is, and where its weights are if not in it."""
    return f"{size_bytes / 2**20:.1f} MiB{f', its weights in {and_list(beside)}' if beside else ''}"
