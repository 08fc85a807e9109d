"""A runtime and its session, as everybody sees them, with the real ones in a worker."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.errors import NotRunError, RuntimeFailedError, WorkerCrashedError
from anysize.validators.budget import PROFILES
from anysize.validators.runtimes.protocol import Availability, Provenance, ProviderUse
from anysize.validators.worker.limits import Limits, default_limits
from anysize.validators.worker.process import Worker

__all__ = ["IsolatedRuntime", "IsolatedSession"]

# A worker may serve several sessions: each has a number of its own.
_SESSIONS = itertools.count(1)


class IsolatedRuntime:
    """A runtime that is imported, asked and run in a process of its own, and never in this one.

    Args:
        name: The word for `--runtimes`.
        target: `module:Class` of it, importable as it is here.
        profile: Its error profile, until it has been asked.
        device: What it computes on, until it has been asked.
        limits: Of each worker; None for the default ones of the device.
    """

    def __init__(
        self,
        name: str,
        target: str,
        *,
        profile: str = "strict",
        device: str = "cpu",
        limits: Limits | None = None,
    ) -> None:
        self.name: Final = name
        self.profile = profile
        self.device = device
        self._target = target
        self._limits = limits or default_limits(device)
        self._version = ""
        self._spare: Worker | None = None  # it has imported the runtime, and no model yet

    def availability(self) -> Availability:
        """Ask the runtime, in a worker; one that dies of the question is not available."""
        self.close()
        worker = Worker(self._target, memory_bytes=self._limits.memory_bytes)
        try:
            reply = worker.ask("describe", timeout_s=self._limits.load_s)
        except NotRunError as exc:
            worker.kill()
            return Availability(is_available=False, reason=str(exc))
        known = self._describe(reply)
        if known.is_available:
            self._spare = worker
        else:
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

    def close(self) -> None:
        """End a worker that was asked and has loaded no model."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()

    def _describe(self, reply: Mapping[str, Any]) -> Availability:
        profile = str(reply.get("profile"))
        if profile not in PROFILES:
            reason = f"its error profile {profile!r} is none of {', '.join(PROFILES)}"
            return Availability(is_available=False, reason=reason)
        self.profile, self.device = profile, str(reply.get("device"))
        self._version = str(reply.get("version", ""))
        return Availability(reply.get("is_available") is True, str(reply.get("reason", "")))


class IsolatedSession:
    """A session in a worker; after a crash or a timeout the next run gets a new one.

    Args:
        target: `module:Class` of the runtime.
        model_path: The file.
        threads: Threads that one operator may use.
        limits: Of each worker.
        worker: One that has loaded no model yet; it belongs to the session from now on.
        shared: Gives a worker that stays somebody else's, in the place of one of its own.
    """

    def __init__(
        self,
        target: str,
        model_path: Path,
        *,
        threads: int,
        limits: Limits | None = None,
        worker: Worker | None = None,
        shared: Callable[[], Worker] | None = None,
    ) -> None:
        self._target = target
        self._shared = shared
        self._number = {"session": next(_SESSIONS)}
        self._model = {"model": str(model_path.absolute()), "threads": threads, **self._number}
        self._limits = limits or Limits()
        self._known: Provenance | None = None
        self.last_run_s = 0.0
        self._worker = self._loaded(worker)

    def run(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Compute all outputs, in the graph's order.

        Raises:
            RuntimeFailedError: The runtime raised an exception; the message is its words.
            WorkerCrashedError: The process ended, in this run or while it loaded the model anew,
                or answered with something else than arrays.
            WorkerTimeoutError: It took too long.
        """
        self._revive()
        folder = self._worker.folder
        files = {name: folder / f"input-{place}.npy" for place, name in enumerate(inputs)}
        for name, array in inputs.items():
            np.save(files[name], array, allow_pickle=False)
        return self.run_files(files)

    def run_files(self, inputs: Mapping[str, Path]) -> Mapping[str, NDArray[np.generic]]:
        """Do what `run` does, on arrays that lie in files already; raises the same."""
        self._revive()
        worker = self._worker
        reply = worker.ask(
            "run",
            {
                "inputs": {name: str(path) for name, path in inputs.items()},
                "folder": str(worker.folder),
                **self._number,
            },
            timeout_s=self._limits.run_s,
        )
        try:
            self.last_run_s = float(reply["run_s"])
            outputs = {
                str(name): _collect(worker.folder / f"output-{reply['number']}-{place}.npy")
                for place, name in enumerate(reply["outputs"])
            }
        except (KeyError, TypeError, ValueError, OSError) as exc:
            worker.kill()
            raise WorkerCrashedError(f"run: the worker answered with garbage: {exc}") from exc
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
        """End the worker, or let one that is shared forget the model."""
        if self._shared is None:
            self._worker.close()
        else:
            self._unload()

    def _unload(self) -> None:
        if self._worker.is_alive:
            with contextlib.suppress(NotRunError):
                self._worker.ask("unload", self._number, timeout_s=self._limits.run_s)

    def _revive(self) -> None:
        if not self._worker.is_alive:
            self._worker = self._loaded(None)

    def _loaded(self, worker: Worker | None) -> Worker:
        """Load the model in `worker`, or in a new one."""
        if self._shared is not None:
            worker = self._shared()
        elif worker is None or not worker.is_alive:
            worker = Worker(self._target, memory_bytes=self._limits.memory_bytes)
        try:
            worker.ask("load", self._model, timeout_s=self._limits.load_s)
        except BaseException:
            if self._shared is None:
                worker.kill()
            raise
        return worker

    def _ask_provenance(self) -> Provenance:
        reply = self._worker.ask("provenance", self._number, timeout_s=self._limits.run_s)
        try:
            return Provenance(
                providers=tuple(ProviderUse(**use) for use in reply["providers"]),
                fallback_nodes=tuple(map(str, reply["fallback_nodes"])),
                threads=reply["threads"],
                tf32=reply["tf32"],
            )
        except (KeyError, TypeError, ValueError) as exc:
            self._worker.kill()
            words = f"provenance: the worker answered with garbage: {exc}"
            raise WorkerCrashedError(words) from exc


def _collect(path: Path) -> NDArray[np.generic]:
    """Map an output into memory: nothing is read of one that has the wrong shape."""
    array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    with contextlib.suppress(OSError):  # Windows keeps files that are mapped
        path.unlink()
    return array
