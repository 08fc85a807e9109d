"""A reference that may end its process: it runs in a copy of this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.errors import WorkerCrashedError, WorkerTimeoutError
from anysize.validators.references.protocol import Precision, Reference, Rejected
from anysize.validators.worker import ForkedWorker, Limits

__all__ = ["ForkedReference"]

Array = NDArray[np.generic]
_Answer = tuple[tuple[str, ...] | None, tuple[Array, ...] | Rejected]


class ForkedReference:
    """Reference whose code runs in a fork: a module may leave, crash or never return.

    Args:
        make: Makes the reference; called in the fork, and again in each that follows one that
            ended.
        name: How messages call it until it has been made.
        limits: What a fork may take.

    Raises:
        AnysizeError: What making the reference raises.
        NotRunError: It ended or stopped while it was made.
    """

    def __init__(self, make: Callable[[], Reference], *, name: str, limits: Limits) -> None:
        self._make: Final = make
        self._limits: Final = limits
        self.name = name
        self.output_names: tuple[str, ...] | None = None
        self._worker: ForkedWorker | None = None
        self.name, self.kind, self.output_names = self._asked(None, f"reference {name}")

    def run(
        self, inputs: Mapping[str, Array], precision: Precision
    ) -> tuple[Array, ...] | Rejected:
        """Let the reference answer.

        Raises:
            AnysizeError: What it raises itself.
            WorkerCrashedError: It ended its process.
            WorkerTimeoutError: It took too long.
        """
        shapes = ", ".join(str(list(array.shape)) for array in inputs.values())
        found: _Answer = self._asked((inputs, precision), f"reference {self.name} at {shapes}")
        self.output_names, answer = found
        return answer

    def close(self) -> None:
        """End the fork."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _asked(self, question: object, label: str) -> Any:
        try:
            if self._worker is None or not self._worker.is_alive:
                self._worker = ForkedWorker(self._start, limits=self._limits)
            return self._worker.ask(question)
        except (WorkerCrashedError, WorkerTimeoutError) as exc:
            raise type(exc)(f"{label}: {exc}") from exc

    def _start(self) -> Callable[[tuple[Mapping[str, Array], Precision] | None], object]:
        """Make the reference, in the fork."""
        reference = self._make()

        def answer(question: tuple[Mapping[str, Array], Precision] | None) -> object:
            if question is None:
                return reference.name, reference.kind, reference.output_names
            found = reference.run(*question)
            return reference.output_names, found

        return answer
