"""What a runtime has to offer to be validated; a third party's object may be one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Availability",
    "FileSession",
    "Provenance",
    "ProviderUse",
    "Runtime",
    "RuntimeDiedError",
    "Session",
    "TimedSession",
    "as_numbers",
]


class RuntimeDiedError(Exception):
    """What computes is a process of its own, and that has ended."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a runtime can run here, and the reason where it cannot."""

    is_available: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, order=True)
class ProviderUse:
    """How many nodes a provider really executed."""

    provider: str
    nodes: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """What really computed the outputs, as the runtime itself tells it.

    Attributes:
        providers: Executed nodes by provider; () until the session has run.
        fallback_nodes: Nodes that ran on another provider than the one asked for, as
            `name (Operator on Provider)`.
        threads: Threads that one operator may use; None where the runtime does not say.
        tf32: Whether TF32 was allowed; None where the hardware has none.
    """

    providers: tuple[ProviderUse, ...] = ()
    fallback_nodes: tuple[str, ...] = ()
    threads: int | None = None
    tf32: bool | None = None


class Session(Protocol):
    """One loaded model, which serves all sizes."""

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order; any exception is the runtime's own words."""
        ...

    def provenance(self) -> Provenance:
        """Tell what computed the outputs so far."""
        ...

    def close(self) -> None:
        """Release the model; the session is not used again."""
        ...


@runtime_checkable
class TimedSession(Protocol):
    """A session that measures its runs itself, where more than the run happens in between."""

    @property
    def last_run_s(self) -> float:
        """Seconds that the last successful run took."""
        ...


@runtime_checkable
class FileSession(Protocol):
    """A session in another process, which reads its inputs where they are already."""

    def run_files(self, inputs: Mapping[str, Path]) -> Mapping[str, NDArray[np.generic]]:
        """Do what `run` does, on arrays in `.npy` files."""
        ...


@runtime_checkable
class Runtime(Protocol):
    """Something that loads an ONNX file and runs it.

    Attributes:
        name: The word for `--runtimes`.
        profile: Its error profile, a key of `anysize.validators.judging.budget.PROFILES`.
        device: What it computes on, for example `cpu`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def profile(self) -> str: ...  # noqa: D102

    @property
    def device(self) -> str: ...  # noqa: D102

    def availability(self) -> Availability:
        """Tell whether it can run here, without raising."""
        ...

    def version(self) -> str:
        """Return the version of the installed package; called only where it is available."""
        ...

    def load(self, model_path: Path, *, threads: int) -> Session:
        """Load a model; any exception means that the runtime cannot, in its own words."""
        ...


def as_numbers(name: str, answer: object) -> NDArray[np.generic]:
    """Return what a session answers for an output; nothing is made an array of in silence.

    Raises:
        TypeError: It is no array, or one of something else than numbers.
    """
    if not isinstance(answer, (np.ndarray, np.generic)):
        raise TypeError(f"output {name!r} is a {type(answer).__name__}, expected a NumPy array")
    output = np.asarray(answer)
    if output.dtype.kind not in "biuf":
        raise TypeError(f"output {name!r} has type {output.dtype}, not numbers")
    return output
