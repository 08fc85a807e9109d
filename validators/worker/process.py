"""The parent's end of a worker: a child process that obeys commands, within limits of time.

Commands go down the child's stdin and replies come up its stdout, one line of JSON each; arrays
cross as `.npy` files. What the runtime prints goes to a file without a name, whose end is quoted
when the process dies. The child has a private folder, its TMPDIR as well: nothing stays behind,
even of a process that was killed.

The child is not trusted. A reply is read only when one is due, so that a flood of them stands in
the pipe; it must be short, JSON, and carry the number of its command. Whatever else comes is the
end of the child, and of every process that inherited its TMPDIR.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

from anysize.errors import (
    NoAnswerError,
    RuntimeFailedError,
    WorkerCrashedError,
    WorkerTimeoutError,
)
from anysize.words import cleaned, ending

__all__ = ["Worker"]

# The child finds what this process finds, in whatever way that was arranged. -P and the filter
# below keep the current folder out: what is validated may lie there.
_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from anysize.validators.worker.serve import serve; serve(sys.argv[2], int(sys.argv[3]))"
)
# Runtimes that call home unless they are told not to, before they are loaded.
_QUIET: Final = {"ORT_DISABLE_TELEMETRY": "1"}
_GRACE_S: Final = 5.0
_POLL_S: Final = 0.2
_READ_BYTES: Final = 1 << 16
_QUOTED_WORDS: Final = 300
_REPLY_BYTES: Final = 1 << 20  # names and numbers, never arrays
_QUOTED_BYTES: Final = 60
# Rust prints its frames between the reason and the end.
_BACKTRACE: Final = "stack backtrace:"


class Worker:
    """A child process that serves one runtime.

    Args:
        target: `module:Class` of the runtime.
        memory_bytes: Limit of its address space; 0 for none.
    """

    def __init__(self, target: str, *, memory_bytes: int = 0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="anysize-worker-"))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        self._log_start = 0
        path = [entry for entry in sys.path if Path(entry).is_absolute()]
        arguments = [json.dumps(path), target, str(memory_bytes)]
        self._process = subprocess.Popen(  # noqa: S603  (our own interpreter)
            [sys.executable, "-P", "-c", _BOOT, *arguments],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**_QUIET, **os.environ, "TMPDIR": str(self.folder)},
            start_new_session=True,
        )
        self._numbers = itertools.count(1)
        assert self._process.stdout is not None
        self._line = _Line(self._process.stdout)
        self._finish = weakref.finalize(
            self, _finish, self._process, self._line, self.folder, self._log
        )

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked something."""
        return self._finish.alive and self._process.poll() is None

    def peak_memory_bytes(self) -> int | None:
        """Return the most memory that it has held at once; None where the system does not say."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return None
        lines = (line.split() for line in status.splitlines() if line.startswith("VmHWM:"))
        return next((int(kib) << 10 for _, kib, _ in lines), None)

    def ask(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout_s: float
    ) -> dict[str, Any]:
        """Send a command and wait for its reply; after a crash or a timeout the worker is gone.

        Raises:
            RuntimeFailedError: The runtime raised an exception; the message is its words.
            NoAnswerError: It ran out of memory, or what it answers is of no use.
            WorkerCrashedError: The process ended, by itself or by a signal, or one that it asks.
            WorkerTimeoutError: There was no reply in time.
        """
        self._log_start = os.fstat(self._log.fileno()).st_size
        number = next(self._numbers)
        request = {"number": number, "command": command, **(arguments or {})}
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is dead already: the reader says so
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        try:
            answer = self._read(timeout_s)
        except queue.Empty:
            self.kill()
            raise WorkerTimeoutError(f"{command}: no answer within {timeout_s:g} s") from None
        if not answer:
            raise WorkerCrashedError(f"{command}: {self._post_mortem()}")
        reply = _parsed(answer)
        if reply is None or reply.get("number") != number:
            self.kill()
            words = repr(answer[:_QUOTED_BYTES].decode(errors="replace"))
            raise WorkerCrashedError(f"{command}: the worker answered with garbage: {words}")
        if "died" in reply:
            self.kill()
            raise WorkerCrashedError(cleaned(reply["died"]))
        if "fatal" in reply:
            self.kill()
            raise NoAnswerError(cleaned(reply["fatal"]))
        if "error" in reply:
            raise RuntimeFailedError(cleaned(reply["error"]))
        return reply

    def close(self) -> None:
        """Let it release what it holds and end; kill it where it takes long."""
        if self._finish.alive:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
            _let_group_end(self._process.pid)
        self.kill()

    def kill(self) -> None:
        """End it and whatever it started, and remove its folder."""
        self._finish()

    def _read(self, timeout_s: float) -> bytes:
        """Wait for a reply, or for the end of a process that left its pipe to another one."""
        self._line.want()
        end = time.monotonic() + timeout_s
        while True:
            is_over = self._process.poll() is not None
            left = end - time.monotonic()
            try:
                return self._line.get(max(0.0, min(left, _POLL_S)))
            except queue.Empty:
                if is_over:
                    return b""
                if left <= 0.0:
                    raise

    def _post_mortem(self) -> str:
        """Say how the process ended, with what it said last; and clear up after it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)  # it may have closed its stdout and live on
        code = self._process.returncode
        cause = f"the process {ending(code)}"
        words = self._last_words()
        self.kill()
        return f"{cause}; its last words: {words}" if words else cause

    def _last_words(self) -> str:
        handle = self._log.fileno()
        start = max(self._log_start, os.fstat(handle).st_size - _READ_BYTES)
        text = os.pread(handle, _READ_BYTES, start).decode(errors="replace")
        words = cleaned(text.split(_BACKTRACE, maxsplit=1)[0], most=_READ_BYTES)
        return words if len(words) <= _QUOTED_WORDS else "…" + words[1 - _QUOTED_WORDS :]


class _Line:
    """The lines of a pipe, each read by a thread when it is asked for.

    The pipe is the thread's, which closes it when it ends: a process that nobody knows of may hold
    the other end, and the thread waits for it.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._wanted = threading.Semaphore(0)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def want(self) -> None:
        """Let the next line be read."""
        self._wanted.release()

    def get(self, timeout_s: float) -> bytes:
        """Return the line that was wanted, or b"" at the end.

        Raises:
            queue.Empty: It has not come in time.
        """
        return self._lines.get(timeout=timeout_s)

    def close(self) -> None:
        """Let the thread close the pipe and end; wait a moment for it."""
        self._is_closed = True
        self._wanted.release()
        self._thread.join(_POLL_S)

    def _serve(self) -> None:
        read = b""
        with self._stream:
            while self._wanted.acquire() and not self._is_closed:
                while b"\n" not in read and len(read) < _REPLY_BYTES:
                    with contextlib.suppress(OSError):
                        if piece := os.read(self._stream.fileno(), _READ_BYTES):
                            read += piece
                            continue
                    break
                line, newline, read = read.partition(b"\n")
                self._lines.put(line + newline)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return reply if isinstance(reply, dict) else None


def _finish(process: subprocess.Popen[bytes], line: _Line, folder: Path, log: IO[bytes]) -> None:
    kin = _kin(folder)
    with contextlib.suppress(OSError):  # nobody is left in the group
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    for number in kin:
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)
    process.wait()
    line.close()
    for stream in (process.stdin, log):
        assert stream is not None
        with contextlib.suppress(OSError):  # a command that was never read
            stream.close()
    shutil.rmtree(folder, ignore_errors=True)


def _let_group_end(group: int) -> None:
    """Wait a moment for what a process has started and what clears up behind it."""
    if not hasattr(os, "killpg"):
        return
    end = time.monotonic() + 1.0
    with contextlib.suppress(OSError):  # nobody is left
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(_POLL_S / 10)


def _kin(folder: Path) -> list[int]:
    """Find the processes, in whatever session, that were given `folder` as their TMPDIR."""
    mark = b"\0TMPDIR=" + os.fsencode(folder) + b"\0"
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone, or somebody else's
            if mark in b"\0" + entry.read_bytes():
                found.append(int(entry.parent.name))
    return found
