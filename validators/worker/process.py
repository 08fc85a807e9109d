"""The parent's end of a worker: a child process that obeys commands, within limits of time.

Commands go down the child's stdin and replies come up its stdout, one line of JSON each; arrays
cross as `.npy` files. What the runtime prints goes to a file in a private folder, whose end is
quoted when the process dies. The folder is the child's TMPDIR as well: nothing stays behind, even
of a process that was killed.

The child is not trusted. A reply is read only when one is due, so that a flood of them stands in
the pipe; it must be short, JSON, and carry the number of its command. Whatever else comes is the
end of the child.
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
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

from anysize.errors import RuntimeFailedError, WorkerCrashedError, WorkerTimeoutError

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
_LOG: Final = "output.log"
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
        self._log = self.folder / _LOG
        self._log_start = 0
        path = [entry for entry in sys.path if Path(entry).is_absolute()]
        arguments = [json.dumps(path), target, str(memory_bytes)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  (our own interpreter)
                [sys.executable, "-P", "-c", _BOOT, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**_QUIET, **os.environ, "TMPDIR": str(self.folder)},
                start_new_session=True,
            )
        self._numbers = itertools.count(1)
        assert self._process.stdout is not None
        self._line = _Line(self._process.stdout)
        self._finish = weakref.finalize(self, _finish, self._process, self._line, self.folder)

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked something."""
        return self._finish.alive and self._process.poll() is None

    def ask(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout_s: float
    ) -> dict[str, Any]:
        """Send a command and wait for its reply; after a crash or a timeout the worker is gone.

        Raises:
            RuntimeFailedError: The runtime raised an exception; the message is its words.
            WorkerCrashedError: The process ended, by itself or by a signal.
            WorkerTimeoutError: There was no reply in time.
        """
        self._log_start = self._log.stat().st_size
        number = next(self._numbers)
        request = {"number": number, "command": command, **(arguments or {})}
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is dead already: the reader says so
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        try:
            answer = self._line.read(timeout_s)
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
        if "error" in reply:
            raise RuntimeFailedError(str(reply["error"]))
        return reply

    def close(self) -> None:
        """Let it release what it holds and end; kill it where it takes long."""
        if self._finish.alive:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(queue.Empty):
                self._line.read(_GRACE_S)  # nothing, as soon as the process has ended
        self.kill()

    def kill(self) -> None:
        """End it and whatever it started, and remove its folder."""
        self._finish()

    def _post_mortem(self) -> str:
        """Say how the process ended, with what it said last; and clear up after it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)  # it may have closed its stdout and live on
        code = self._process.returncode
        cause = _cause(code)
        words = self._last_words()
        self.kill()
        return f"{cause}; its last words: {words}" if words else cause

    def _last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _READ_BYTES))
            text = log.read().decode(errors="replace")
        words = " ".join(text.split(_BACKTRACE, maxsplit=1)[0].split())
        return words if len(words) <= _QUOTED_WORDS else "…" + words[1 - _QUOTED_WORDS :]


def _cause(returncode: int | None) -> str:
    if returncode is None:
        return "the process stopped answering"
    if returncode >= 0:
        return f"the process ended with exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    hint = ", as when memory runs out" if name == "SIGKILL" else ""
    return f"the process died of {name}{hint}"


class _Line:
    """The lines of a pipe, each read by a thread when it is asked for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._wanted = threading.Semaphore(0)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def read(self, timeout_s: float) -> bytes:
        """Return the next line, or b"" at the end.

        Raises:
            queue.Empty: There was none in time; the pipe is of no use any more.
        """
        self._wanted.release()
        return self._lines.get(timeout=timeout_s)

    def close(self) -> None:
        """End the thread, of a pipe whose other end is closed."""
        self._is_closed = True
        self._wanted.release()
        self._thread.join(_GRACE_S)

    def _serve(self) -> None:
        while self._wanted.acquire() and not self._is_closed:
            self._lines.put(self._stream.readline(_REPLY_BYTES))


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return reply if isinstance(reply, dict) else None


def _finish(process: subprocess.Popen[bytes], line: _Line, folder: Path) -> None:
    with contextlib.suppress(OSError):  # nobody is left in the group
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    line.close()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # a command that was never read
                stream.close()
    shutil.rmtree(folder, ignore_errors=True)
