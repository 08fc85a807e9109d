"""A runtime and its session, as everybody sees them, with the real ones in a worker."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anysize.errors import NotRunError, RuntimeFailedError
from anysize.validators.runtimes.protocol import Availability, Provenance, ProviderUse, Runtime
from anysize.validators.worker.process import Limits, Worker

__all__ = ["IsolatedRuntime", "IsolatedSession"]

_NO_LIMITS: Final = Limits()


class IsolatedRuntime:
    """A runtime that is imported, asked and run in a process of its own, and never in this one.

    Args:
        runtime: It is asked here for its name, error profile and device only.
        target: `module:Class` of it, importable as it is here.
        limits: Of each worker.
    """

    def __init__(self, runtime: Runtime, target: str, *, limits: Limits = _NO_LIMITS) -> None:
        self.name: Final = runtime.name
        self.profile: Final = runtime.profile
        self.device: Final = runtime.device
        self._target = target
        self._limits = limits
        self._version = ""
        self._spare: Worker | None = None  # it has imported the runtime, and no model yet

    def availability(self) -> Availability:
        """Ask the runtime, in a worker; one that dies of the question is not available."""
        worker = Worker(self._target, memory_bytes=self._limits.memory_bytes)
        try:
            reply = worker.ask("describe", timeout_s=self._limits.load_s)
        except NotRunError as exc:
            worker.kill()
            return Availability(is_available=False, reason=str(exc))
        self._version = str(reply["version"])
        known = Availability(bool(reply["is_available"]), str(reply["reason"]))
        if self._spare is not None:
            self._spare.close()
        self._spare = worker if known.is_available else None
        if not known.is_available:
            worker.close()
        return known

    def version(self) -> str:
        """Return the version of the installed package."""
        if not self._version:
            self.availability()
        return self._version

    def load(self, model_path: Path, *, threads: int) -> IsolatedSession:
        """Load a model in a worker.

        Raises:
            RuntimeFailedError: The runtime cannot; the message is its words.
            WorkerCrashedError: The process ended.
            WorkerTimeoutError: It took too long.
        """
        first, self._spare = self._spare, None
        return IsolatedSession(
            self._target, model_path, threads=threads, limits=self._limits, worker=first
        )


class IsolatedSession:
    """A session in a worker; after a crash or a timeout the next run gets a new one.

    Args:
        target: `module:Class` of the runtime.
        model_path: The file.
        threads: Threads that one operator may use.
        limits: Of each worker.
        worker: One that has loaded no model yet; it belongs to the session from now on.
    """

    def __init__(
        self,
        target: str,
        model_path: Path,
        *,
        threads: int,
        limits: Limits = _NO_LIMITS,
        worker: Worker | None = None,
    ) -> None:
        self._target = target
        self._model = {"model": str(model_path.absolute()), "threads": threads}
        self._limits = limits
        self._known: Provenance | None = None
        self.last_run_s = 0.0
        self._worker = self._loaded(worker)

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order.

        Raises:
            RuntimeFailedError: The runtime raised an exception; the message is its words.
            WorkerCrashedError: The process ended, in this run or while it loaded the model anew.
            WorkerTimeoutError: It took too long.
        """
        if not self._worker.is_alive:
            self._worker = self._loaded(None)
        worker, folder = self._worker, self._worker.folder
        files = {name: str(folder / f"input-{place}.npy") for place, name in enumerate(inputs)}
        for name, array in inputs.items():
            np.save(files[name], array, allow_pickle=False)
        reply = worker.ask(
            "run", {"inputs": files, "folder": str(folder)}, timeout_s=self._limits.run_s
        )
        self.last_run_s = float(reply["run_s"])
        outputs = {
            str(name): np.load(folder / f"output-{place}.npy", allow_pickle=False)
            for place, name in enumerate(reply["outputs"])
        }
        if self._known is None:
            with contextlib.suppress(RuntimeFailedError):
                self._known = self._ask_provenance()  # the process may not live to the end
        return outputs

    def provenance(self) -> Provenance:
        """Tell what computed the outputs, as far as a worker lived to tell."""
        if self._worker.is_alive:
            with contextlib.suppress(NotRunError):
                self._known = self._ask_provenance()
        return self._known or Provenance()

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def _loaded(self, worker: Worker | None) -> Worker:
        """Load the model in `worker`, or in a new one."""
        if worker is None or not worker.is_alive:
            worker = Worker(self._target, memory_bytes=self._limits.memory_bytes)
        try:
            worker.ask("load", self._model, timeout_s=self._limits.load_s)
        except BaseException:
            worker.kill()
            raise
        return worker

    def _ask_provenance(self) -> Provenance:
        reply = self._worker.ask("provenance", timeout_s=self._limits.run_s)
        return Provenance(
            providers=tuple(ProviderUse(**use) for use in reply["providers"]),
            fallback_nodes=tuple(reply["fallback_nodes"]),
            threads=reply["threads"],
            tf32=reply["tf32"],
        )
