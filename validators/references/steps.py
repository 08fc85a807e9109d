"""The tensors that a reference or a graph computes on the way, in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Recorder", "Step", "read_steps"]

Array = NDArray[np.generic]

_INDEX: Final = "steps.jsonl"


@dataclass(frozen=True, slots=True)
class Step:
    """A tensor that was computed on the way.

    Attributes:
        layer: Name of the module's layer that made it, "" for the module itself; or of the node.
        operator: The function that was called; or the node's operator.
        tensor: Its name in the graph; "" for a module's.
        values: The tensor, whose file stays where it is.
    """

    layer: str
    operator: str
    tensor: str
    values: NDArray[np.floating[Any]]

    def __str__(self) -> str:
        if self.tensor:
            return f"node {self.layer!r} ({self.operator})"
        where = f"layer {self.layer!r}" if self.layer else "the module itself"
        return f"{where} ({self.operator})"


class Recorder:
    """Writes floating-point tensors down, in order; those of earlier calls stay.

    Args:
        folder: Receives one file for each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = len(_entries(folder))

    def add(self, array: Array, *, layer: str, operator: str, tensor: str = "") -> None:
        """Write one tensor down; what holds no floating-point numbers is left out."""
        if not np.issubdtype(array.dtype, np.floating):
            return
        np.save(self._folder / f"{self._count}.npy", array, allow_pickle=False)
        with (self._folder / _INDEX).open("a", encoding="utf-8") as index:
            index.write(json.dumps([layer, operator, tensor]) + "\n")
        self._count += 1


def read_steps(folder: Path) -> tuple[Step, ...]:
    """Read what was written to a folder, in order; nothing where nothing was."""
    return tuple(
        Step(layer, operator, tensor, np.load(folder / f"{place}.npy", mmap_mode="r"))
        for place, (layer, operator, tensor) in enumerate(_entries(folder))
    )


def _entries(folder: Path) -> Sequence[list[str]]:
    index = folder / _INDEX
    if not index.exists():
        return []
    return [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
