"""Jobs of a matrix in processes of this machine, each in its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

from anysize.files import remove_partial
from anysize.verbs.matrix_runs.job import died, run_job

if TYPE_CHECKING:
    from anysize.validators.report import Entry
    from anysize.verbs.matrix_runs.plan import Job

__all__ = ["run_in_processes"]

# What a job may take to remove its temporary files when it is stopped, and to end when it is done.
_GRACE_S = 1.0
_EXIT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Running:
    """A job's process, the end of the pipe that its entry comes out of, and its TMPDIR."""

    job: Job
    process: SpawnProcess
    receiver: Connection
    temporary: Path


def run_in_processes(
    waiting: Sequence[Job], count: int, folder: Path, started: Callable[[Job], object]
) -> Generator[tuple[Job, Entry], None, None]:
    """Run jobs, `count` at once, and yield each as it ends; one that dies harms no other.

    Whatever ends the iteration early ends the jobs that run, and leaves no file of theirs behind.

    Args:
        waiting: The jobs.
        count: Processes at once.
        folder: Where a job's exported file goes.
        started: Called with each job as it begins.
    """
    queue = list(reversed(waiting))
    running: list[_Running] = []
    unfinished: list[Job] = []
    try:
        while queue or running:
            while queue and len(running) < count:
                _start(queue.pop(), folder, running)
                started(running[-1].job)
            done = wait([one.receiver for one in running])
            for one in [one for one in running if one.receiver in done]:
                entry = _entry(one)
                if entry is None:
                    unfinished.append(one.job)
                _end([one], within_s=_EXIT_S)
                running.remove(one)
                yield one.job, entry or died(one.job)
    finally:
        unfinished += [one.job for one in running]
        _stop(running, [folder / job.exported_name for job in unfinished if job.model.source])


def _start(job: Job, folder: Path, running: list[_Running]) -> None:
    # A fork would share torch's threads, and each job begins with a clean memory.
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    temporary = Path(tempfile.mkdtemp(prefix="anysize-job-"))
    process = context.Process(target=_serve, args=(job, folder, temporary, sender))
    running.append(_Running(job, process, receiver, temporary))
    with sender, _interrupts_blocked():
        process.start()


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let a child never see SIGINT: Ctrl-C goes to all, and this process ends its children."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # when it is started it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(job: Job, folder: Path, temporary: Path, sender: Connection) -> None:
    """Be the process of a job."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that temporary files go
        threading.Thread(target=_end_with_parent, daemon=True).start()
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        sender.send(run_job(job, folder))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)


def _entry(one: _Running) -> Entry | None:
    """Receive what a job came to; None where its process died of it."""
    try:
        entry: Entry = one.receiver.recv()
    except (EOFError, OSError):
        return None
    return entry


def _stop(running: Sequence[_Running], exports: Sequence[Path]) -> None:
    """End processes before they are done, and remove what is left of their exports."""
    for one in running:
        if one.process.pid is not None:
            one.process.terminate()
    try:
        _end(running, within_s=_GRACE_S)
    finally:  # an impatient user interrupts twice
        for path in exports:
            remove_partial(path)


def _end(running: Sequence[_Running], *, within_s: float) -> None:
    """Wait for processes to end, kill those that do not, and remove what they hold."""
    started = [one.process for one in running if one.process.pid is not None]
    until = time.monotonic() + within_s
    try:
        for process in started:
            process.join(max(0.0, until - time.monotonic()))
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.join()
        for one in running:
            one.receiver.close()
            shutil.rmtree(one.temporary, ignore_errors=True)
