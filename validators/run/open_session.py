"""Opening a runtime and its session: whatever it does becomes a verdict.

One is open at a time, and none while the reference computes. On two cores, a worker that starts
beside a computation on both of them slows it down by more than it gains (measured: ResNet-50 on two
runtimes took as long as one after the other, at most), and each holds the model once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from anysize.errors import WorkerCrashedError, WorkerTimeoutError
from anysize.validators.judging import Verdict
from anysize.validators.report import RuntimeRecord
from anysize.validators.runtimes import Availability, Provenance, Runtime, Session
from anysize.words import one_line

__all__ = ["Opened", "failure", "open_session"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A runtime with a session, or with the verdict of all its cells.

    Attributes:
        record: What the report says of the runtime; its provenance comes later.
        session: With the model loaded; None where there is none.
        verdict: Why there is none.
        words: The reason, in one line.
    """

    record: RuntimeRecord
    session: Session | None
    verdict: Verdict = Verdict.UNAVAILABLE
    words: str = ""


def open_session(runtime: Runtime, model_path: Path, *, threads: int, profile: str = "") -> Opened:
    """Ask a runtime whether it can run and let it load the model; never raises for what it does.

    Args:
        runtime: What to run.
        model_path: The file.
        threads: Threads that one operator may use.
        profile: The error profile that the file asks for; the runtime's own by default.
    """
    try:
        availability = runtime.availability()
    except Exception as exc:  # a caller's own object may do anything
        availability = Availability(is_available=False, reason=one_line(exc))
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
