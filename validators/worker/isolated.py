"""A runtime and its session, as everybody sees them, with the real ones in a worker."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from anysize.errors import NotRunError, RuntimeFailedError, WorkerCrashedError
from anysize.validators.judging import PROFILES
from anysize.validators.runtimes import Availability, Provenance, ProviderUse
from anysize.validators.worker.limits import Limits, default_limits
from anysize.validators.worker.process import Worker
from anysize.words import cleaned

__all__ = ["IsolatedRuntime", "IsolatedSession"]

_DESCRIBE_S: Final = 60.0  # a package that imports for ever keeps the others waiting
_NAME: Final = 100  # letters of a version, a device or a provider
_MOST_NAMES: Final = 1000
_LONGEST_NAME: Final = 4096
_IN_MEMORY: Final = 64 << 20
_BLOCK: Final = 512  # bytes, of `stat`
# A worker may serve several sessions: each has a number of its own.
_SESSIONS = itertools.count(1)


class IsolatedRuntime:
    """A runtime that is imported, asked and run in a process of its own, and never in this one.

    Args:
        name: The word for `--runtimes`.
        target: `module:Class` of it, importable as it is here.
        profile: Error profile of the runtime, until it has been asked.
        device: What it computes on, until it has been asked.
        limits: Limits of each worker; None for the default ones of the device.
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
        self._are_default = limits is None
        self._version: str | None = None
        self._spare: Worker | None = None  # it has imported the runtime, and no model yet

    def availability(self) -> Availability:
        """Ask the runtime, in a worker; one that dies of the question is not available."""
        self.close()
        self._version = ""
        worker = Worker(self._target, memory_bytes=self._limits.memory_bytes)
        try:
            reply = worker.ask("describe", timeout_s=min(self._limits.load_s, _DESCRIBE_S))
        except NotRunError as exc:
            worker.kill()
            return Availability(is_available=False, reason=str(exc))
        device = self.device
        known = self._describe(reply)
        if known.is_available and self._are_default and self.device != device:
            worker.close()  # its limits are those of another device
            self._limits = default_limits(self.device)
        elif known.is_available:
            self._spare = worker
        else:
            worker.close()
        return known

    def version(self) -> str:
        """Return the version of the installed package."""
        if self._version is None:
            self.availability()
        return self._version or ""

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
        self.profile, self.device = profile, cleaned(reply.get("device"), most=_NAME)
        self._version = cleaned(reply.get("version", ""), most=_NAME)
        return Availability(reply.get("is_available") is True, cleaned(reply.get("reason", "")))


class IsolatedSession:
    """A session in a worker; after a crash or a timeout the next run gets a new one.

    Args:
        target: `module:Class` of the runtime.
        model_path: The file.
        threads: Threads that one operator may use.
        limits: Limits of each worker.
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
        try:
            for name, array in inputs.items():
                np.save(files[name], array, allow_pickle=False)
        except OSError as exc:  # it is the worker's folder, too
            self._worker.kill()
            raise WorkerCrashedError(f"run: the worker's folder is of no use: {exc}") from exc
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
            self.last_run_s = _seconds(reply["run_s"])
            outputs = _outputs(reply, worker.folder)
        except (ArithmeticError, EOFError, LookupError, OSError, TypeError, ValueError) as exc:
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

    def peak_memory_bytes(self) -> int | None:
        """Return the most memory that the worker's process has held at once, if that is known."""
        return self._worker.peak_memory_bytes()

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
            uses = reply["providers"][:_MOST_NAMES]
            return Provenance(
                providers=tuple(_use(use["provider"], use["nodes"]) for use in uses),
                fallback_nodes=tuple(map(cleaned, reply["fallback_nodes"][:_MOST_NAMES])),
                threads=None if reply["threads"] is None else int(reply["threads"]),
                tf32=None if reply["tf32"] is None else reply["tf32"] is True,
            )
        except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
            self._worker.kill()
            words = f"provenance: the worker answered with garbage: {exc}"
            raise WorkerCrashedError(words) from exc


def _outputs(reply: Mapping[str, Any], folder: Path) -> dict[str, NDArray[np.generic]]:
    names = list(map(str, reply["outputs"][: _MOST_NAMES + 1]))
    if len(names) > _MOST_NAMES or any(len(name) > _LONGEST_NAME for name in names):
        raise ValueError(f"{len(names)} outputs with long names")
    if len(set(names)) < len(names):
        raise ValueError(f"two outputs of one name: {', '.join(names)}")
    files = (folder / f"output-{reply['number']}-{place}.npy" for place in range(len(names)))
    return dict(zip(names, map(_collect, files), strict=True))


def _collect(path: Path) -> NDArray[np.generic]:
    """Take an output over from the worker, whose file may be anything, and change at any time."""
    handle = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    )
    with os.fdopen(handle, "rb") as stream:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name} is no regular file")
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        shape, is_fortran, dtype = (
            read if version == (1, 0) else np.lib.format.read_array_header_2_0
        )(stream)
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError(f"{path.name} holds {dtype} of shape {shape}")
        needed = math.prod(shape) * dtype.itemsize
        written = getattr(status, "st_blocks", status.st_size) * _BLOCK
        if status.st_size - stream.tell() < needed or written < needed > _IN_MEMORY:
            raise ValueError(f"{path.name} is shorter than an array of shape {shape}")
        array = _copied(stream, dtype, math.prod(shape))
    with contextlib.suppress(OSError):  # Windows keeps files that are open
        path.unlink()
    return array.reshape(shape, order="F" if is_fortran else "C")


def _copied(stream: IO[bytes], dtype: np.dtype[Any], count: int) -> NDArray[np.generic]:
    """Read elements; many of them into a file that nobody else has, of which only what is used."""
    if count * dtype.itemsize <= _IN_MEMORY:
        return np.frombuffer(stream.read(count * dtype.itemsize), dtype, count)
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy)
        copy.flush()
        return np.memmap(copy, dtype, "r", shape=(count,))


def _seconds(value: object) -> float:
    seconds = float(str(value))
    if not (math.isfinite(seconds) and seconds >= 0.0):
        raise ValueError(f"a run of {value} s")
    return seconds


def _use(provider: object, nodes: object) -> ProviderUse:
    return ProviderUse(cleaned(provider, most=_NAME), int(str(nodes)))
