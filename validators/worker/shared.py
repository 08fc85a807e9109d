"""One worker for several sessions that are never asked at the same time."""

from __future__ import annotations

from pathlib import Path

from anysize.validators.worker.isolated import IsolatedSession
from anysize.validators.worker.limits import Limits, default_limits
from anysize.validators.worker.process import Worker

__all__ = ["SharedWorker"]


class SharedWorker:
    """A worker that is started when it is needed, and again where it died.

    Starting one takes longer than most graphs take to run. Where it dies of one session, the others
    load their models anew in the next.

    Args:
        target: `module:Class` of the runtime.
        limits: Limits of the worker; None for the default ones of a CPU.
    """

    def __init__(self, target: str, *, limits: Limits | None = None) -> None:
        self._target = target
        self._limits = limits or default_limits("cpu")
        self._worker: Worker | None = None

    def load(self, model_path: Path, *, threads: int) -> IsolatedSession:
        """Load a model beside those that it has already.

        Raises:
            RuntimeFailedError: The runtime cannot; the message is its words.
            WorkerCrashedError: The process ended.
            WorkerTimeoutError: It took too long.
        """
        return IsolatedSession(
            self._target, model_path, threads=threads, limits=self._limits, shared=self.worker
        )

    def worker(self) -> Worker:
        """Return the worker, alive."""
        if self._worker is None or not self._worker.is_alive:
            self._worker = Worker(self._target, memory_bytes=self._limits.memory_bytes)
        return self._worker

    def close(self) -> None:
        """End the worker; the next session starts another."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
