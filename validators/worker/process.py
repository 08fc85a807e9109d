"""The parent's end of a worker: a child process that obeys commands, within limits of time.

Commands go down the child's stdin and replies come up its stdout, one line of JSON each; arrays
cross as `.npy` files in a private folder. What the runtime prints goes to a file there, whose end
is quoted when the process dies. The folder is the child's TMPDIR as well: nothing stays behind,
even of a process that was killed.
"""

from __future__ import annotations

import contextlib
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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from anysize.errors import RuntimeFailedError, WorkerCrashedError, WorkerTimeoutError

__all__ = ["Limits", "Worker"]

# The child finds what this process finds, in whatever way that was arranged. -P and the filter
# below keep the current folder out: what is validated may lie there.
_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from anysize.validators.worker.serve import serve; serve(sys.argv[2], int(sys.argv[3]))"
)
_GRACE_S: Final = 5.0
_LOG: Final = "output.log"
_READ_BYTES: Final = 1 << 16
_QUOTED_WORDS: Final = 300
# Rust prints its frames between the reason and the end.
_BACKTRACE: Final = "stack backtrace:"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may take.

    Attributes:
        load_s: Seconds for starting, importing the runtime and loading the model.
        run_s: Seconds for one run.
        memory_bytes: Of address space; 0 sets no limit. Not enforced on Windows.
    """

    load_s: float = 300.0
    run_s: float = 300.0
    memory_bytes: int = 0


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
                env={**os.environ, "TMPDIR": str(self.folder)},
                start_new_session=True,
            )
        self._replies: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        reader = threading.Thread(
            target=_read, args=(self._process.stdout, self._replies), daemon=True
        )
        reader.start()
        self._finish = weakref.finalize(self, _finish, self._process, reader, self.folder)

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
        line = json.dumps({"command": command, **(arguments or {})}).encode() + b"\n"
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is dead already: the reader says so
            self._process.stdin.write(line)
            self._process.stdin.flush()
        try:
            answer = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            self.kill()
            raise WorkerTimeoutError(f"{command}: no answer within {timeout_s:g} s") from None
        if answer is None:
            raise WorkerCrashedError(f"{command}: {self._post_mortem()}")
        reply = json.loads(answer)
        if "error" in reply:
            raise RuntimeFailedError(reply["error"])
        return dict(reply)

    def close(self) -> None:
        """Let it release what it holds and end; kill it where it takes long."""
        if self._finish.alive:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
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


def _read(stream: IO[bytes], replies: queue.SimpleQueue[bytes | None]) -> None:
    for line in stream:
        replies.put(line)
    replies.put(None)


def _finish(process: subprocess.Popen[bytes], reader: threading.Thread, folder: Path) -> None:
    with contextlib.suppress(OSError):  # nobody is left in the group
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    reader.join(_GRACE_S)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # a command that was never read
                stream.close()
    shutil.rmtree(folder, ignore_errors=True)
