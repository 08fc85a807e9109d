"""Runtimes and their sessions, opened while the reference computes.

Starting a worker, importing a runtime and loading a graph take longer than many a run, and need
nothing that the reference has to say.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from anysize.errors import WorkerCrashedError, WorkerTimeoutError
from anysize.validators.references.protocol import one_line
from anysize.validators.report.report import RuntimeRecord
from anysize.validators.runtimes.protocol import Provenance, Runtime, Session
from anysize.validators.verdicts import Verdict
from anysize.validators.worker import IsolatedRuntime

__all__ = ["Opened", "Openings", "failure", "open_runtime"]

# Each holds the model once more; those behind them are opened one at a time, when it is their turn.
_AHEAD: Final = 2


@dataclass(frozen=True, slots=True)
class Opened:
    """A runtime with a session, or with the verdict of all its cells.

    Attributes:
        record: Of the report; its provenance comes later.
        session: With the model loaded; None where there is none.
        verdict: Why there is none.
        words: The reason, in one line.
    """

    record: RuntimeRecord
    session: Session | None
    verdict: Verdict = Verdict.UNAVAILABLE
    words: str = ""


def open_runtime(runtime: Runtime, model_path: Path, *, threads: int, profile: str = "") -> Opened:
    """Ask a runtime whether it can run and let it load the model; never raises for what it does.

    Args:
        runtime: What to run.
        model_path: The file.
        threads: Threads that one operator may use.
        profile: The error profile that the file asks for; the runtime's own by default.
    """
    availability = runtime.availability()
    record = RuntimeRecord(
        runtime.name, "", runtime.device, profile or runtime.profile, Provenance()
    )
    if not availability.is_available:
        return Opened(record, None, Verdict.UNAVAILABLE, availability.reason)
    record = replace(record, version=runtime.version())
    try:
        session = runtime.load(model_path, threads=threads)
    except Exception as exc:  # each runtime has exceptions of its own
        return Opened(record, None, failure(exc, otherwise=Verdict.UNSUPPORTED), one_line(exc))
    return Opened(record, session)


def failure(exc: Exception, *, otherwise: Verdict) -> Verdict:
    """Tell which verdict an exception of a runtime is."""
    if isinstance(exc, WorkerCrashedError):
        return Verdict.CRASHED
    return Verdict.TIMEOUT if isinstance(exc, WorkerTimeoutError) else otherwise


class Openings:
    """Opens runtimes, the first ones ahead of time in a thread; what nobody took is closed.

    Args:
        runtimes: In the order in which they will be taken.
        open_one: Opens one of them.
    """

    def __init__(self, runtimes: Sequence[Runtime], open_one: Callable[[Runtime], Opened]) -> None:
        self._open_one = open_one
        # A runtime of the caller's own lives in this process, and perhaps in this thread.
        ahead = [runtime for runtime in runtimes if isinstance(runtime, IsolatedRuntime)][:_AHEAD]
        self._futures: dict[int, Future[Opened]] = {id(runtime): Future() for runtime in ahead}
        thread = threading.Thread(target=self._work, args=(ahead, dict(self._futures)), daemon=True)
        thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for future in self._futures.values():
            if not future.cancel():
                future.add_done_callback(_close)  # at once, or when it has loaded

    def take(self, runtime: Runtime) -> Opened:
        """Return the opened runtime, whose session now belongs to the caller."""
        future = self._futures.pop(id(runtime), None)
        return self._open_one(runtime) if future is None else future.result()

    def _work(self, runtimes: Sequence[Runtime], futures: dict[int, Future[Opened]]) -> None:
        for runtime in runtimes:
            future = futures[id(runtime)]
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._open_one(runtime))
            except BaseException as exc:  # raised where it is taken
                future.set_exception(exc)


def _close(future: Future[Opened]) -> None:
    if future.exception() is None and (session := future.result().session) is not None:
        session.close()
