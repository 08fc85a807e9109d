"""Validating many files cheaply: one export and one reference per twin, one worker for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from exported import exported
from numpy.typing import NDArray
from sabotage.entry import Sabotage
from sabotage.graph import Graph
from sabotage.twins import TWINS

from anysize.sizes import Size
from anysize.validators import RUNTIMES, Report, get_runtime, validate_model
from anysize.validators.references import Reference
from anysize.validators.references.eager.module import ModuleReference
from anysize.validators.references.protocol import Precision, Rejected
from anysize.validators.runtimes import Availability
from anysize.validators.worker import IsolatedSession

__all__ = ["Bench", "KeptRuntime", "Remembered"]

Array = NDArray[np.generic]


class Remembered:
    """A reference that computes each answer once, for all the files that are compared with it."""

    kind = "module"

    def __init__(self, reference: Reference) -> None:
        self.name, self.output_names = reference.name, reference.output_names
        self._reference = reference
        self._answers: dict[tuple[object, ...], tuple[Array, ...] | Rejected] = {}

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        key = (precision, *((array.shape, array.tobytes()) for array in inputs.values()))
        if key not in self._answers:
            self._answers[key] = self._reference.run(inputs, precision)
            self.output_names = self._reference.output_names
        return self._answers[key]

    def close(self) -> None:
        """Stays open for the next file."""


class KeptSession(IsolatedSession):
    """Leaves its worker to the next file."""

    def close(self) -> None:
        """Let the worker forget the model; `end` is for the last one."""
        self._unload()

    def end(self) -> None:
        super().close()


class KeptRuntime:
    """A runtime in one worker, which loads one file after the other.

    Args:
        name: As in `--runtimes`.
    """

    def __init__(self, name: str) -> None:
        isolated = get_runtime(name)
        self._known = isolated.availability()
        self._version = isolated.version()
        isolated.close()
        self.name, self.profile, self.device = name, isolated.profile, isolated.device
        self._target = RUNTIMES[name].target
        self._last: KeptSession | None = None

    def availability(self) -> Availability:
        return self._known

    def version(self) -> str:
        return self._version

    def load(self, model_path: Path, *, threads: int) -> KeptSession:
        worker = None if self._last is None else self._last._worker
        self._last = None
        self._last = KeptSession(self._target, model_path, threads=threads, worker=worker)
        return self._last

    def close(self) -> None:
        if self._last is not None:
            self._last.end()


@dataclass(frozen=True, slots=True)
class Healthy:
    """A twin that has been exported."""

    path: Path
    model: bytes
    reference: Remembered


class Bench:
    """Everything that the entries share on one runtime.

    Args:
        folder: For the files.
        runtime: Its name.
    """

    def __init__(self, folder: Path, runtime: str) -> None:
        self.runtime = KeptRuntime(runtime)
        self._folder = folder
        self._twins: dict[str, Healthy] = {}
        self._reports: dict[tuple[str, tuple[Size, ...]], Report] = {}

    def twin(self, name: str) -> Healthy:
        """Export a twin, once."""
        if name not in self._twins:
            twin = TWINS[name]
            module = twin.module()
            size = getattr(module, "training_size", Size(32, 32))
            path = exported(
                f"twin-{name}", lambda: twin.source or module, head=twin.head, size=size
            )
            reference = Remembered(ModuleReference(module))
            self._twins[name] = Healthy(path, path.read_bytes(), reference)
        return self._twins[name]

    def healthy(self, name: str, sizes: tuple[Size, ...] = ()) -> Report:
        """Validate a twin as it is, once at the same sizes."""
        sizes = sizes or TWINS[name].sizes
        if (name, sizes) not in self._reports:
            made = self.twin(name)
            self._reports[name, sizes] = self._validate(made.path, made, self.runtime, sizes)
        return self._reports[name, sizes]

    def wrong(
        self, entry: Sabotage, sizes: tuple[Size, ...] | Literal["auto", "quick"] = ()
    ) -> Report:
        """Validate what an entry makes of its twin, at its own sizes unless others are given."""
        made = self.twin(entry.twin)
        sizes = sizes or entry.sizes or TWINS[entry.twin].sizes
        runtime = self.runtime if entry.fake is None else entry.fake(self.runtime)
        # The proof of a new file, which `quick` is for, runs it once: no runtime is on trial there.
        options = {"is_repeated": sizes != "quick" or entry.fake is not None}
        return self._validate(self.spoiled(entry), made, runtime, sizes, **options)

    def spoiled(self, entry: Sabotage) -> Path:
        """Write the wrong file; the healthy one where it is the runtime that is wrong."""
        made = self.twin(entry.twin)
        if entry.spoil is None:
            return made.path
        graph = Graph(onnx.ModelProto.FromString(made.model))
        entry.spoil(graph)
        path = self._folder / "wrong.onnx"
        onnx.save(graph.model, path)
        return path

    def close(self) -> None:
        self.runtime.close()

    @staticmethod
    def _validate(path, made, runtime, sizes, **options) -> Report:
        return validate_model(
            path, made.reference, runtimes=[runtime], sizes=sizes, threads=2, **options
        )
