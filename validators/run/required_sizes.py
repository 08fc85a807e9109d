"""The sizes that a file has to take: those of its original, but for bounds that are said in it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anysize.errors import UnsupportedModelError
from anysize.sizes import Size, SizeRange
from anysize.validators.inputs import Case, GraphInputs, make_inputs
from anysize.validators.references import Reference
from anysize.validators.run.file_under_test import FileUnderTest
from anysize.validators.worker import ForkedWorker, Limits, can_fork, default_limits

if TYPE_CHECKING:
    from torch import nn

__all__ = ["required_sizes"]


def required_sizes(
    file: FileUnderTest,
    original: Reference | nn.Module | Path | str,
    training: Size | None,
    *,
    signature: GraphInputs,
    limits: Limits | None = None,
) -> Callable[[Size], bool]:
    """Tell at which sizes the file has to take what its original answers.

    A module checks what it is given, so its answer is enough. An ONNX file broadcasts, and answers
    empty maps: a size counts where its layers fit by PyTorch's arithmetic, or those of the file
    under test do without the guards of its sizes.

    Args:
        file: Records the bounds that the user asked for, and sizes at which the module does what
            the file does, where it does something else at others: no one graph does both.
        original: A module, an ONNX file, or a ready reference.
        training: A size that both take.
        signature: What the file takes.
        limits: What a module may take of time and memory.
    """
    asked, sizes = file.metadata.asked_sizes, file.metadata.path_sizes
    if isinstance(original, Reference):  # which answers, and cannot be asked what it runs
        is_free = original.kind == "onnx" or sizes is not None
        return lambda size: size in asked and not is_free
    if not isinstance(original, (str, Path)):
        if sizes is None:
            return lambda size: size in asked
        return lambda size: (
            size in asked
            and _is_one_path(original, sizes, size, signature, limits or default_limits("cpu"))
        )

    @functools.cache
    def fitting() -> tuple[SizeRange, ...]:
        return _fitting(file, Path(original), training)

    return lambda size: size in asked and any(size in one for one in fitting())


def _is_one_path(
    module: nn.Module, sizes: Sequence[Size], size: Size, signature: GraphInputs, limits: Limits
) -> bool:
    """Ask a module whether it does at `size` what it does at `sizes`; where it fails, it does."""
    from anysize.validators.references.eager import OnePath, module_device

    def answer(size: Size) -> bool:
        return OnePath(module, made, sizes)(size)

    def made(size: Size) -> tuple[NDArray[np.generic], ...]:
        return tuple(make_inputs(Case(size, 2), signature, signature.seed).values())

    try:
        if not can_fork() or module_device(module) != "cpu":
            return answer(size)
        with contextlib.closing(ForkedWorker(lambda: answer, limits=limits)) as worker:
            return bool(worker.ask(size))
    except Exception:  # the module's own code raises what it likes, and may end its process
        return True


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
