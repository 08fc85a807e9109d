"""Somebody's Python code in a copy of this process, so that it may end it.

A fork shares the memory of what is in it already, such as a module's weights: nothing is loaded
anew and nothing is held twice. The copy has one thread, and no runtime that computes on several
gets over that; so it serves in a second thread, for which each of them (OpenMP, oneDNN) makes
workers of its own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from anysize.errors import WorkerCrashedError, WorkerTimeoutError
from anysize.validators.worker.limits import Limits, limit_this_process
from anysize.words import ending

__all__ = ["ForkedWorker", "can_fork"]

# macOS's own libraries do not survive a fork, and Windows has none.
_SYSTEM: Final = "linux"


def can_fork() -> bool:
    """Whether this system has processes that share their memory."""
    return sys.platform == _SYSTEM


class ForkedWorker:
    """A copy of this process that answers questions.

    Args:
        start: Called in the copy, once; returns what answers each question.
        limits: What the copy may take; its memory is on top of what this process has.

    Raises:
        BaseException: What `start` raises.
        WorkerCrashedError: The copy ended before it could answer.
        WorkerTimeoutError: It took too long to start.
    """

    def __init__(self, start: Callable[[], Callable[[Any], Any]], *, limits: Limits) -> None:
        self._limits = limits
        self._pipe, far = Pipe()
        for stream in (sys.stdout, sys.stderr):  # what stands there would be written twice
            stream.flush()
        with warnings.catch_warnings():
            # Python 3.12 warns of threads, which are the readers of other workers' pipes.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process = os.fork()
        if not self._process:
            self._pipe.close()
            _serve(start, far, limits.memory_bytes)
        far.close()
        self.close = weakref.finalize(self, _end, self._process, self._pipe)
        self._answer("start", limits.load_s)

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked something."""
        return self.close.alive

    def ask(self, question: Any) -> Any:
        """Send something that can be pickled, and return what is answered.

        Raises:
            BaseException: What answering it raised.
            WorkerCrashedError: The copy ended, by itself or by a signal; it is gone.
            WorkerTimeoutError: It took too long; it is gone.
        """
        with contextlib.suppress(OSError):  # it is dead already: reading says so
            self._pipe.send(question)
        return self._answer("run", self._limits.run_s)

    def _answer(self, what: str, timeout_s: float) -> Any:
        try:
            if not self._pipe.poll(timeout_s):
                self.close()
                raise WorkerTimeoutError(f"{what}: no answer within {timeout_s:g} s")
            is_answer, found = self._pipe.recv()
        except (EOFError, OSError):
            code = self.close()
            raise WorkerCrashedError(f"{what}: the process {ending(code)}") from None
        if is_answer:
            return found
        raise found


def _end(process: int, pipe: Connection) -> int:
    """End a copy, and return how it ended: an exit code, or a signal below 0."""
    pipe.close()
    ended, status = os.waitpid(process, os.WNOHANG)
    if not ended:
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def _serve(start: Callable[[], Callable[[Any], Any]], pipe: Connection, memory_bytes: int) -> None:
    """Answer questions until the pipe ends, and then end; it never returns."""
    try:
        gc.freeze()  # to end a session of the parent is to wait for threads that are not here
        faulthandler.disable()  # the frames are those of the parent
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
        limit_this_process(memory_bytes + _mapped_bytes() if memory_bytes else 0)
        thread = threading.Thread(target=_answer_all, args=(start, pipe), daemon=True)
        thread.start()
        thread.join()
    finally:
        os._exit(1)


def _answer_all(start: Callable[[], Callable[[Any], Any]], pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):  # the parent has enough
        has_started, answers = _attempt(start)
        pipe.send((has_started, None if has_started else answers))
        while has_started:
            pipe.send(_attempt(partial(answers, pipe.recv())))
    os._exit(0)


def _attempt(call: Callable[[], Any]) -> tuple[bool, Any]:
    """Call something; return whether it answers, and its answer or what it raised."""
    try:
        return True, call()
    except BaseException as exc:  # of whatever kind: the parent raises it
        return False, _carried(exc)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def _carried(exc: BaseException) -> BaseException:
    """Return an exception that can be sent: itself, or one that has its words."""
    try:
        pickle.loads(pickle.dumps(exc))  # noqa: S301  (our own)
    except Exception:  # a class of somebody's own may fail in any way
        return RuntimeError(f"{type(exc).__name__}: {exc}")
    return exc


def _mapped_bytes() -> int:
    """Return the address space that this process has already."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")
